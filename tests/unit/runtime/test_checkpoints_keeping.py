"""Which checkpoints stay: the latest, the best by a metric, and one for each span of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rlhf.config import CheckpointConfig
from rlhf.errors import ConfigError
from rlhf.runtime.checkpoints import Manifest
from rlhf.runtime.checkpoints.keeping import kept
from tests.unit.runtime.saved_checkpoints import ORIGIN, Scene

HOUR = 3600.0


def manifests(figures: Sequence[float | None], hours: Sequence[float] | None = None) -> list[Manifest]:
    """Steps 1, 2, ... with a figure each, saved after so many hours."""
    return [
        Manifest(
            step=step,
            origin=ORIGIN,
            saved_at=HOUR * (hours[step - 1] if hours else step),
            world_size={},
            dtype={},
            engine={},
            versions={},
            metrics={} if figure is None else {"reward/mean": figure},
            files={},
        )
        for step, figure in enumerate(figures, start=1)
    ]


def config(**keys: object) -> CheckpointConfig:
    return CheckpointConfig.model_validate({"keep": 1} | keys)


def best(**keys: object) -> CheckpointConfig:
    return config(keep_best={"metric": "reward/mean"} | keys)


def test_the_latest_stay_in_whatever_order_they_are_found() -> None:
    found = manifests([None] * 12)
    assert kept(reversed(found), config(keep=3)) == {10, 11, 12}


def test_the_best_stays_beside_the_latest() -> None:
    found = manifests([0.1, 0.9, 0.5, 0.3])
    assert kept(found, best()) == {2, 4}
    assert kept(found, best(mode="min")) == {1, 4}
    assert kept(found, best(count=2)) == {2, 3, 4}


def test_of_equals_the_later_is_the_best() -> None:
    assert kept(manifests([0.9, 0.9, 0.1]), best()) == {2, 3}


def test_one_without_the_figure_is_no_best() -> None:
    """It was not finite in that step."""
    assert kept(manifests([0.1, None, None]), best()) == {1, 3}


def test_one_stays_for_each_span_of_time() -> None:
    hours = [0.0, 0.5, 1.0, 1.9, 2.1, 2.2]
    assert kept(manifests([None] * 6, hours), config(keep_every_hours=1)) == {1, 3, 5, 6}


def test_who_stays_by_time_stays_however_often_it_is_asked() -> None:
    """Steps are removed as the run goes; what is left must not shift."""
    found = manifests([None] * 40, [0.25 * n for n in range(40)])
    there: list[Manifest] = []
    for manifest in found:
        there = [m for m in [*there, manifest] if m.step in kept([*there, manifest], config(keep_every_hours=2))]
    assert [m.step for m in there] == [1, 9, 17, 25, 33, 40]


@pytest.mark.parametrize("jump", [-1000.0, 1000.0])
def test_a_clock_that_jumps_removes_none_of_the_latest_and_stops_no_counting(jump: float) -> None:
    hours = [0.0, 0.5, 1.0, 1.5 + jump, 2.0 + jump, 2.5 + jump]
    assert kept(manifests([None] * 6, hours), config(keep=2, keep_every_hours=1)) == {1, 3, 4, 5, 6}


def test_steps_are_removed_when_a_newer_one_is_there(tmp_path: Path) -> None:
    scene = Scene(tmp_path, keep=1, keep_best={"metric": "reward/mean"})
    for step, figure in ((1, 0.2), (2, 0.8), (3, 0.4), (4, 0.6)):
        scene.save(step, metrics={"reward/mean": figure})
    assert scene.names() == ["step-2", "step-4"]


def test_a_best_by_a_figure_that_is_not_logged_is_refused_by_name(tmp_path: Path) -> None:
    scene = Scene(tmp_path, keep_best={"metric": "reward/meen"})
    with pytest.raises(ConfigError, match=r"this stage logs no 'reward/meen'\. Did you mean 'reward/mean'"):
        scene.checkpoints.require_metric({"reward/mean": 1.0, "reward/std": 0.0})
    Scene(tmp_path, keep_best={"metric": "reward/std"}).checkpoints.require_metric({"reward/std": 0.0})


def test_a_secret_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^checkpoint\.upload: .*without user or password") as caught:
        CheckpointConfig(upload="ftp://me:hunter2@example.org/runs")
    assert "hunter2" not in str(caught.value)
