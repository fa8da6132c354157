"""Trackers: a failing sink is named once and dropped; TensorBoard gets every figure once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.errors import Interrupted
from rlhf.tracking.registration import register_trackers
from rlhf.tracking.tensorboard import TensorBoard, TensorBoardConfig
from rlhf.tracking.trackers import Trackers
from rlhf.types import Metrics


class Recording:
    """Remembers what it was told; raises `error` at `log` where there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.logged: list[tuple[int, Metrics]] = []
        self.closed = False
        self.error = error

    def log(self, step: int, metrics: Metrics) -> None:
        if self.error is not None:
            raise self.error
        self.logged.append((step, dict(metrics)))
        metrics.clear()

    def close(self) -> None:
        self.closed = True


def test_a_failing_tracker_is_said_once_and_dropped() -> None:
    said: list[str] = []
    good, bad = Recording(), Recording(ConnectionError("no route"))
    trackers = Trackers({"bad": bad, "good": good}, said.append)
    metrics = {"reward/mean": 1.0}
    trackers.log(1, metrics)
    trackers.log(2, metrics)
    assert [step for step, _ in good.logged] == [1, 2]
    assert said == ["tracker 'bad' failed to log (ConnectionError: no route); dropped, run goes on."]
    assert trackers.names == ("good",)
    # Recording clears its dict: what one tracker does to its copy reaches neither the caller nor the next step.
    assert metrics == {"reward/mean": 1.0}


def test_close_reaches_every_tracker() -> None:
    first, second = Recording(), Recording()
    Trackers({"a": first, "b": second}, print).close()
    assert first.closed
    assert second.closed


def test_an_interruption_is_not_the_trackers_fault() -> None:
    trackers = Trackers({"a": Recording(Interrupted("stop"))}, print)
    with pytest.raises(Interrupted):
        trackers.log(1, {})


def test_tensorboard_hides_what_a_resumed_run_logs_again(tmp_path: Path, real_entry_points: None) -> None:
    pytest.importorskip("tensorboardX")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps, offset in (((1, 2, 3), 0.0), ((2, 3), 100.0)):
        tracker = TensorBoard(TensorBoardConfig(), tmp_path)
        for step in steps:
            tracker.log(step, {"reward/mean": step + offset, "policy/loss": float("nan")})
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("reward/mean")] == [(1, 1), (2, 102), (3, 103)]


def test_tensorboard_is_registered_under_its_name() -> None:
    registered = {}

    def register(name: str, factory: object, *, config: object = None) -> None:
        registered[name] = (factory, config)

    register_trackers(register)
    assert registered == {"tensorboard": (TensorBoard, TensorBoardConfig)}
