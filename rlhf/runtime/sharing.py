"""Train engines and a rollout engine on the same devices: whoever is called has them, the others made room before.

A hand-over of weights is the only time both sides hold some: the trainer, and the weights of the rollout engine, whose
cache comes back when the trainer has gone to sleep, right before it generates.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from rlhf.protocols import Loss, RolloutEngine
from rlhf.runtime.lane import streamed
from rlhf.types import Batch, Completion, Fingerprint, Metrics, Prompt, Sampling


def take_turns(engines: Mapping[str, Any], rollout: RolloutEngine) -> tuple[dict[str, SharedEngine], SharedRollout]:
    """The train engines, which are awake, and the rollout engine, which sleeps, as engines that make room."""
    devices = _Devices(engines, rollout)
    return {role: SharedEngine(role, engine, devices) for role, engine in engines.items()}, SharedRollout(devices)


class _Devices:
    """Whose turn it is. Calls of one side may run at the same time; the other side waits until all of them are done."""

    def __init__(self, engines: Mapping[str, Any], rollout: RolloutEngine) -> None:
        self._engines, self.rollout = engines, rollout
        self._awake = list(engines)
        self._rollout: Literal["asleep", "weights", "awake"] = "asleep"
        self._busy = 0
        self._generates = False
        self._ended = threading.Condition()

    def training(self, role: str, *, computes: bool = False) -> AbstractContextManager[None]:
        """The turn of a train engine. One that computes needs more room than one that only reads its weights."""
        return self._turn(role, computes)

    def generating(self) -> AbstractContextManager[None]:
        """The turn of the rollout engine."""
        return self._turn(None, computes=True)

    def loaded(self) -> None:
        """The rollout engine has woken its weights, to replace them."""
        if self._rollout == "asleep":
            self._rollout = "weights"

    @contextmanager
    def _turn(self, role: str | None, computes: bool) -> Iterator[None]:
        generates = role is None
        with self._ended:
            self._ended.wait_for(lambda: not self._busy or self._generates == generates)
            if role is None:
                self._wake_rollout()
            else:
                self._wake(role, computes)
            self._generates = generates
            self._busy += 1
        try:
            yield
        finally:
            with self._ended:
                self._busy -= 1
                self._ended.notify_all()

    def _wake_rollout(self) -> None:
        while self._awake:
            _tell(self._engines[self._awake[-1]], "sleep")
            self._awake.pop()
        if self._rollout != "awake":
            self.rollout.wake()
            self._rollout = "awake"

    def _wake(self, role: str, computes: bool) -> None:
        if self._rollout == "awake" or (computes and self._rollout == "weights"):
            self.rollout.sleep()
            self._rollout = "asleep"
        if role not in self._awake:
            _tell(self._engines[role], "wake")
            self._awake.append(role)


def _tell(engine: Any, word: Literal["sleep", "wake"]) -> None:
    """A guest's train engine may have neither, and keeps its memory."""
    getattr(engine, word, lambda: None)()


class SharedEngine:
    """A `TrainEngine` that is woken when it is called, once the rollout engine sleeps."""

    def __init__(self, role: str, engine: Any, devices: _Devices) -> None:
        self._role, self._engine, self._devices = role, engine, devices

    def forward(self, batch: Batch) -> Any:
        with self._devices.training(self._role, computes=True):
            return self._engine.forward(batch)

    def base_forward(self, batch: Batch) -> Any:
        """`forward` without adapters."""
        with self._devices.training(self._role, computes=True):
            return self._engine.base_forward(batch)

    def train_step(self, batch: Batch, loss_fn: Loss[Any]) -> Metrics:
        with self._devices.training(self._role, computes=True):
            metrics: Metrics = self._engine.train_step(batch, loss_fn)
            return metrics

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """`base=False`: of adapters alone, where the recipe has them handed over apart."""
        with self._devices.training(self._role):
            weights: Iterator[tuple[str, Tensor]] = self._engine.weights() if base else self._engine.weights(base=False)
            return weights

    def fingerprints(self) -> Mapping[str, Fingerprint] | None:
        with self._devices.training(self._role):
            return _fingerprints(self._engine)

    def export(self, path: Path) -> None:
        with self._devices.training(self._role):
            self._engine.export(path)

    def save(self, path: Path) -> None:
        with self._devices.training(self._role):
            self._engine.save(path)

    def load(self, path: Path) -> None:
        with self._devices.training(self._role):
            self._engine.load(path)


class SharedRollout:
    """A `RolloutEngine` that is woken to generate, once all train engines sleep."""

    def __init__(self, devices: _Devices) -> None:
        self._devices = devices

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        with self._devices.generating():
            return self._devices.rollout.generate(prompts, sampling)

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Its turn lasts until the stream ends."""
        with self._devices.generating():
            yield from streamed(self._devices.rollout, prompts, sampling)

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        self._devices.loaded()
        self._devices.rollout.load_weights(weights, version)

    def fingerprints(self) -> Mapping[str, Fingerprint] | None:
        return _fingerprints(self._devices.rollout)

    def take_reissued(self) -> int:
        """Of a group of engines; one alone loses no prompts."""
        taken: int = getattr(self._devices.rollout, "take_reissued", lambda: 0)()
        return taken

    def sleep(self) -> None:
        """Nothing: it is asleep whenever another needs its place."""

    def wake(self) -> None:
        """Nothing: `generate` wakes it."""


def _fingerprints(engine: Any) -> Mapping[str, Fingerprint] | None:
    told: Mapping[str, Fingerprint] | None = getattr(engine, "fingerprints", lambda: None)()
    return told
