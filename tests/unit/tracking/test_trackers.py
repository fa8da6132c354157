"""A tracker that fails or hangs is named once, dropped and never waited for; TensorBoard gets every figure once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.tracking.registration import register_trackers
from rlhf.tracking.tensorboard import TensorBoard, TensorBoardConfig
from rlhf.tracking.trackers import MOST_WAITING, Trackers
from rlhf.types import Metrics


def until(done: Callable[[], object]) -> None:
    """Call it again and again, until it says that it is done."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # let the other threads have their turn


class Recording:
    """Remembers what it was told; raises `error` at `log` where there is one."""

    def __init__(self, error: BaseException | None = None) -> None:
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
    until(lambda: trackers.log(2, metrics) or "bad" not in trackers.names)
    assert trackers.names == ("good",)
    trackers.close()
    assert [step for step, _ in good.logged][:2] == [1, 2]
    assert said == [
        "tracker 'bad' failed to log (ConnectionError: no route); dropped, run goes on; metrics.jsonl has every figure."
    ]
    # Recording clears its dict: what one tracker does to its copy reaches neither the caller nor the next step.
    assert metrics == {"reward/mean": 1.0}


def test_close_reaches_every_tracker() -> None:
    first, second = Recording(), Recording()
    Trackers({"a": first, "b": second}, print).close()
    assert first.closed
    assert second.closed


class Hanging(Recording):
    """A service that went away in the middle of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()

    def log(self, step: int, metrics: Metrics) -> None:
        self.back.wait(60)
        super().log(step, metrics)


def test_one_that_hangs_holds_up_nobody_and_is_left_at_the_end() -> None:
    said: list[str] = []
    hanging, good = Hanging(), Recording()
    trackers = Trackers({"hanging": hanging, "good": good}, said.append, patience=0.2)
    for step in range(1, MOST_WAITING):
        trackers.log(step, {"reward/mean": 1.0})
    assert said == []
    trackers.close()
    assert said == [
        "tracker 'hanging' did not finish within 0.2 s; dropped, run goes on; metrics.jsonl has every figure."
    ]
    assert (len(good.logged), good.closed) == (MOST_WAITING - 1, True)
    hanging.back.set()


def test_one_that_falls_too_far_behind_is_dropped_before_it_fills_the_memory() -> None:
    said: list[str] = []
    hanging = Hanging()
    trackers = Trackers({"hanging": hanging}, said.append)
    until(lambda: trackers.log(1, {}) or not trackers.names)
    assert said == ["tracker 'hanging' is 1000 steps behind; dropped, run goes on; metrics.jsonl has every figure."]
    hanging.back.set()


def test_one_that_comes_back_misses_no_step() -> None:
    said: list[str] = []
    late = Hanging()
    trackers = Trackers({"late": late}, said.append)
    for step in range(5):
        trackers.log(step, {})
    late.back.set()
    trackers.close()
    assert (said, [step for step, _ in late.logged], late.closed) == ([], [0, 1, 2, 3, 4], True)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), OSError(28, "No space left")])
def test_whatever_it_raises_is_its_own_affair(error: BaseException) -> None:
    said: list[str] = []
    trackers = Trackers({"a": Recording(error)}, said.append)
    trackers.log(1, {})
    trackers.close()
    assert len(said) == 1
    assert said[0].startswith(f"tracker 'a' failed to log ({type(error).__name__}: ")


def test_one_that_cannot_close_is_said() -> None:
    class Unclosable(Recording):
        def close(self) -> None:
            raise TimeoutError("the service gave no answer")

    said: list[str] = []
    Trackers({"a": Unclosable()}, said.append).close()
    assert "tracker 'a' failed to close (TimeoutError: the service gave no answer)" in said[0]


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
