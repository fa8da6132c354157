"""The tracker `prometheus` without Ray: which names it publishes, how many, and what it does where Ray is not."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from rlhf.plugins import load_plugins
from rlhf.runtime import prometheus
from rlhf.runtime.prometheus import Prometheus, prometheus_name


class Gauge:
    """Stands in for Ray's: remembers what each was last set to."""

    told: dict[str, tuple[float, dict[str, str]]]

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] = ()) -> None:
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.told[self.name] = (value, tags)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, dict[str, str]]]:
    ray, metrics = pytest.importorskip("ray"), pytest.importorskip("ray.util.metrics")
    Gauge.told = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(metrics, "Gauge", Gauge)
    return Gauge.told


def tracker() -> Prometheus:
    return Prometheus(None, Path("runs/mine/ppo"))


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("reward/mean", "reward_mean"),
        ("reward/my-judge/errors", "reward_my_judge_errors"),
        ("gold/hilfreich–ß", "gold_hilfreich__"),
    ],
)
def test_names_are_those_prometheus_takes(metric: str, name: str) -> None:
    assert prometheus_name(metric) == name


def test_it_is_found_by_its_name() -> None:
    built = load_plugins().registry.build("tracker", "prometheus", {}, Path("runs/mine/ppo"))
    assert isinstance(built, Prometheus)


def test_each_figure_is_a_gauge_of_its_run_and_stage(told: dict[str, Any]) -> None:
    sink = tracker()
    sink.log(3, {"reward/mean": 0.25})
    sink.log(4, {"reward/mean": 0.5, "policy/loss": math.inf})
    here = {"run": "mine", "stage": "ppo"}
    assert told["rlhf_reward_mean"] == (0.5, here)
    assert told["rlhf_step"] == (4.0, here)
    assert "rlhf_policy_loss" not in told, "a figure that is none is a gap"
    assert told["rlhf_metrics_left_out"] == (0.0, here)


def test_a_figure_is_told_again_while_a_step_takes_long(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "REFRESH_S", 0.01)
    sink = tracker()
    sink.log(1, {"reward/mean": 0.25})
    told.clear()
    deadline = time.monotonic() + 30
    while "rlhf_reward_mean" not in told:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sink.close()
    told.clear()
    time.sleep(0.05)
    assert not told, "a stage that has ended says no more"


def test_a_run_of_one_stage_is_its_own_stage(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    Prometheus(None, tmp_path).log(1, {"reward/mean": 1.0})
    assert told["rlhf_reward_mean"][1] == {"run": tmp_path.name, "stage": tmp_path.name}


def test_names_are_bounded_and_those_left_out_are_counted(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "MOST_METRICS", 3)
    sink = tracker()
    for step in range(5):
        sink.log(step, {f"reward/{step}": 1.0, "reward/0": 2.0})
    assert {name for name in told if "reward" in name} == {"rlhf_reward_0", "rlhf_reward_1", "rlhf_reward_2"}
    assert told["rlhf_metrics_left_out"][0] == 2


def test_two_metrics_never_share_a_gauge(told: dict[str, Any]) -> None:
    tracker().log(1, {"reward/a-b": 1.0, "reward/a_b": 2.0, "step": 9.0})
    assert told["rlhf_reward_a_b"][0] == 1.0
    assert told["rlhf_step"][0] == 1.0
    assert told["rlhf_metrics_left_out"][0] == 2


def test_without_ray_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match="publishes through Ray"):
        tracker().log(1, {"reward/mean": 1.0})
