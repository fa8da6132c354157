"""Engines on the same devices take turns: who is called is awake, and what it has no room beside sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.runtime.handover import Handover
from rlhf.runtime.sharing import SharedEngine, SharedRollout, take_turns
from rlhf.types import Sampling


class Device:
    """What is on it, in GB, and the most there has been."""

    def __init__(self) -> None:
        self.held: dict[str, float] = {}
        self.log: list[str] = []
        self.peak = 0.0

    def hold(self, who: str, size: float) -> None:
        self.held[who] = size
        self.peak = max(self.peak, sum(self.held.values()))


class Trainer:
    """30 GB awake: weights and optimizer state."""

    def __init__(self, name: str, device: Device) -> None:
        self.name, self.device = name, device
        self.wake()

    def _does(self, what: str) -> str:
        assert self.device.held[self.name] == 30, f"{what} of {self.name} asleep"
        self.device.log.append(f"{self.name} {what}")
        return what

    def __getattr__(self, what: str) -> Callable[..., Any]:
        if what in ("forward", "base_forward", "train_step", "export", "save", "load"):
            return lambda *_: self._does(what)
        raise AttributeError(what)

    def weights(self) -> Any:
        self._does("weights")
        return iter([])

    def fingerprints(self) -> None:
        self._does("fingerprints")

    def sleep(self) -> None:
        assert self.device.held[self.name] == 30
        self.device.hold(self.name, 0)

    def wake(self) -> None:
        assert self.device.held.get(self.name, 0) == 0
        self.device.hold(self.name, 30)


class Rollout:
    """10 GB of weights and 40 of cache."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.sleep()

    def generate(self, *_: Any) -> list[Any]:
        assert (self.device.held["engine"], self.device.held["cache"]) == (10, 40)
        self.device.log.append("generate")
        return []

    def load_weights(self, *_: Any) -> None:
        self.device.hold("engine", 10)
        self.device.log.append("load")

    def sleep(self) -> None:
        self.device.hold("engine", 0)
        self.device.hold("cache", 0)

    def wake(self) -> None:
        self.device.hold("engine", 10)
        self.device.hold("cache", 40)


SAMPLING = Sampling(max_tokens=1)
Shared = tuple[Device, dict[str, SharedEngine], SharedRollout]


@pytest.fixture
def shared() -> Shared:
    device = Device()
    rollout = Rollout(device)
    engines, turns = take_turns({role: Trainer(role, device) for role in ("policy", "value")}, rollout)
    return device, engines, turns


def test_a_stream_holds_the_devices_to_its_end(shared: Shared) -> None:
    device, engines, rollout = shared
    stream = rollout.stream([], SAMPLING)
    assert device.held["policy"] == 30, "nothing has been asked for"
    assert next(stream) == []
    waiting = threading.Thread(target=engines["value"].forward, args=(None,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    stream.close()
    waiting.join(10)
    assert device.log == ["generate", "value forward"]


def test_a_run_never_holds_more_than_one_side(shared: Shared) -> None:
    device, engines, rollout = shared
    hand_over = Handover(lambda _: None)
    for version in range(3):
        rollout.generate([], SAMPLING)
        rollout.generate([], SAMPLING)
        assert device.held == {"policy": 0, "value": 0, "engine": 10, "cache": 40}
        engines["value"].forward(None)  # type: ignore[arg-type]
        assert device.held == {"policy": 0, "value": 30, "engine": 0, "cache": 0}, "who is not asked stays asleep"
        engines["policy"].train_step(None, None)  # type: ignore[arg-type]
        hand_over(engines["policy"], rollout, version)
        assert device.held == {"policy": 30, "value": 30, "engine": 10, "cache": 0}, "weights first, cache second"
        engines["policy"].save(Path())
    assert device.peak == 70
    assert device.log[-4:] == ["policy weights", "policy fingerprints", "load", "policy save"]


def test_a_step_after_a_hand_over_without_samples_has_its_room(shared: Shared) -> None:
    """As in distillation, which samples in some steps only."""
    device, engines, rollout = shared
    rollout.load_weights(iter([]), 1)
    assert device.held["engine"] == 10
    engines["policy"].train_step(None, None)  # type: ignore[arg-type]
    assert device.held["engine"] == 0


@pytest.mark.parametrize("what", ["forward", "base_forward", "train_step", "weights", "fingerprints", "save", "load"])
def test_the_cache_is_never_there_beside_a_trainer(shared: Shared, what: str) -> None:
    device, engines, rollout = shared
    rollout.generate([], SAMPLING)
    arguments = {"weights": 0, "fingerprints": 0, "train_step": 2}.get(what, 1)
    getattr(engines["policy"], what)(*[None] * arguments)
    assert (device.held["policy"], device.held["cache"]) == (30, 0)


def test_both_sides_wait_for_each_other_and_not_for_their_own(shared: Shared) -> None:
    device, engines, rollout = shared
    begun, goes_on = threading.Barrier(3), threading.Event()

    def long(*_: Any) -> str:
        begun.wait(5)
        assert goes_on.wait(5)
        assert device.held["cache"] == 0
        device.log.append("trained")
        return ""

    for engine in engines.values():
        engine._engine.train_step = long
    threads = [threading.Thread(target=engine.train_step, args=(None, None)) for engine in engines.values()]
    for thread in threads:
        thread.start()
    begun.wait(5)  # both are at it at once
    generation = threading.Thread(target=rollout.generate, args=([], SAMPLING))
    generation.start()
    time.sleep(0.05)
    goes_on.set()
    for thread in (*threads, generation):
        thread.join(5)
    assert device.log == ["trained", "trained", "generate"]


def test_a_failed_call_leaves_its_turn(shared: Shared) -> None:
    device, engines, rollout = shared

    def failing(*_: Any) -> None:
        raise RuntimeError("out of memory")

    engines["policy"]._engine.train_step = failing
    with pytest.raises(RuntimeError):
        engines["policy"].train_step(None, None)  # type: ignore[arg-type]
    rollout.generate([], SAMPLING)
    assert device.log == ["generate"]


def test_a_guest_without_sleep_keeps_its_memory_and_goes_on() -> None:
    class Guest:
        def forward(self, batch: object) -> str:
            return "output"

    device = Device()
    engines, rollout = take_turns({"policy": Guest()}, Rollout(device))
    rollout.generate([], SAMPLING)
    assert engines["policy"].forward(None) == "output"  # type: ignore[arg-type]
    assert engines["policy"].fingerprints() is None
    assert rollout.fingerprints() is None
    assert rollout.take_reissued() == 0
