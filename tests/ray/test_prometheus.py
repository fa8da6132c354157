"""The tracker `prometheus` on a real Ray: what a Prometheus would read at the node's own address."""

from __future__ import annotations

import math
import os
import re
import time
import urllib.request
from pathlib import Path

import pytest

import rlhf
from rlhf.runtime.prometheus import Prometheus
from tests.tiny_runs import SFT, single

pytestmark = pytest.mark.ray

_LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")


def samples(text: str) -> dict[str, tuple[dict[str, str], float]]:
    """Labels and value of each line of Prometheus' text format, by name."""
    found = [match.groups() for match in map(_LINE.match, text.splitlines()) if match]
    return {name: (dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for name, labels, value in found}


def scraped() -> str:
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="30 s; with RLHF_TEST_EVERY_METHOD=1")
def test_figures_of_a_run_stand_beside_those_of_ray(ray_up: None, tmp_path: Path) -> None:
    recipe = single(SFT, "ray", name="mine", trackers=["prometheus"])
    run = rlhf.train(recipe, out=tmp_path / "mine")
    last = run.metrics[-1]
    deadline = time.monotonic() + 60  # Ray's workers tell their node's agent every few seconds
    while "ray_rlhf_policy_loss" not in (text := scraped()) or samples(text)["ray_rlhf_step"][1] < last["step"]:
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(0.5)
    found = samples(text)
    labels, loss = found["ray_rlhf_policy_loss"]
    assert loss == pytest.approx(last["policy/loss"])
    assert (labels["run"], labels["stage"]) == ("mine", "mine")
    assert found["ray_rlhf_metrics_left_out"][1] == 0
    published = {name.removeprefix("ray_rlhf_") for name in found if name.startswith("ray_rlhf_")}
    assert {name.replace("/", "_") for name in last if "/" in name} <= published
    assert "ray_node_cpu_utilization" in text


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="35 s; with RLHF_TEST_EVERY_METHOD=1")
def test_a_step_may_take_longer_than_ray_remembers_a_gauge(ray_up: None, tmp_path: Path) -> None:
    sink = Prometheus(None, tmp_path / "long" / "ppo")
    sink.log(1, {"reward/mean": 0.5, "policy/loss": math.nan})
    started = time.monotonic()
    while time.monotonic() - started < 35:  # 20 s is what it remembers
        time.sleep(1)
    found = samples(scraped())
    sink.close()
    assert found["ray_rlhf_reward_mean"][1] == 0.5
    assert found["ray_rlhf_reward_mean"][0]["stage"] == "ppo"
