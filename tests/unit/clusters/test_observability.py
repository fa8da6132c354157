"""clusters/observability: every metric the dashboard asks for is one that a run or Ray publishes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlhf.runtime.prometheus import prometheus_name

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "clusters" / "observability"
OURS = "ray_rlhf_"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    data = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def queries(dashboard: dict[str, Any]) -> list[str]:
    drawn = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return drawn + [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]


def asked(dashboard: dict[str, Any]) -> set[str]:
    return {name for query in queries(dashboard) for name in re.findall(r"\bray_[A-Za-z0-9_]+", query)}


def published_by_runs() -> set[str]:
    """By docs/metrics.md, which a test of its own holds against real runs; and what the tracker adds."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([^`<]+)` \|", text, flags=re.MULTILINE)
    return {OURS + prometheus_name(name) for name in [*documented, "step", "metrics_left_out"]}


def known_to_ray() -> set[str]:
    """What Ray's own code publishes on each node, or shows on its own dashboards."""
    import ray

    package = Path(ray.__file__).parent / "dashboard" / "modules"
    agent = (package / "reporter" / "reporter_agent.py").read_text(encoding="utf-8")
    panels = (package / "metrics" / "dashboards" / "default_dashboard_panels.py").read_text(encoding="utf-8")
    named = {f"ray_{name}" for name in re.findall(r'"((?:node|component)_[a-z_]+)"', agent)}
    return named | set(re.findall(r"\bray_[a-z_]+", panels))


def test_every_metric_of_a_run_is_published(dashboard: dict[str, Any]) -> None:
    ours = {name for name in asked(dashboard) if name.startswith(OURS)}
    assert len(ours) > 20
    assert ours - published_by_runs() == set()


def test_every_other_metric_is_one_of_rays(dashboard: dict[str, Any]) -> None:
    others = {name for name in asked(dashboard) if not name.startswith(OURS)}
    assert len(others) > 5
    assert others - known_to_ray() == set()


def test_figures_of_runs_are_those_of_the_chosen_ones(dashboard: dict[str, Any]) -> None:
    drawn = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert all(query.endswith('{run=~"$run", stage=~"$stage"}') for query in drawn if OURS in query)


def test_panels_have_a_place_and_a_source_each(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (Debian: apt install prometheus)")
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_prometheus_takes_its_file(name: str, tmp_path: Path) -> None:
    config = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:  # Debian's is built without the part that asks Kubernetes
        if job.pop("kubernetes_sd_configs", None) is not None:
            job["static_configs"] = [{"targets": ["127.0.0.1:8080"]}]
    (tmp_path / name).write_text(yaml.safe_dump(config), encoding="utf-8")
    command = ["promtool", "check", "config", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
