"""Memory of one role: how much in each phase of a run, and of what, in each of its processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.planning.activations import activations
from rlhf.planning.replica import Work
from rlhf.planning.spread import BYTES, Spread, Standing, standing, weight_bytes

FRAGMENTS = 1.03
"""Allocators hold a little more than what is asked of them: blocks that do not fit what comes next."""
HELD_BACK = 0.65
"""Of the small blocks a CPU's training asked for, what glibc keeps besides: it gives back from the end of its heap
alone, and gradients and moments come to stand between. Measured (benchmarks/RESULTS.md); with MALLOC_MMAP_THRESHOLD_
set it is nothing.
"""


@dataclass(frozen=True)
class Phase:
    """One phase; bytes by component on the device of a process, and in the host's memory where they lie there."""

    name: str
    device: Mapping[str, float]
    host: float = 0.0

    @property
    def total(self) -> float:
        """Bytes on the device."""
        return sum(self.device.values())


@dataclass(frozen=True)
class RoleMemory:
    """All phases of a role, for each of its processes."""

    phases: tuple[Phase, ...]

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def host(self) -> float:
        """Bytes in the host's memory, beside the device, at most."""
        return max(phase.host for phase in self.phases)


def memory_of(work: Work, spread: Spread) -> RoleMemory:
    """Of a role that reads tokens: loaded, scoring and, where it trains, a micro-batch and an optimizer step.

    `work` is the largest micro-batch.
    """
    held = standing(work, spread)
    phases = [_loading(work, spread, held), _scoring(work, held)]
    if work.trains:
        phases += [_training(work, spread, held), _stepping(work, spread, held)]
    return RoleMemory(tuple(phases))


def _loading(work: Work, spread: Spread, held: Standing) -> Phase:
    """Weights as they come from disk; ZeRO then copies them into one flat tensor, and its part of that for itself."""
    device = {"weights": weight_bytes(work)}
    if spread.sharded and work.trains:
        device |= {"flat copy": weight_bytes(work), "optimizer": held.optimizer / 3}
    return Phase("load", device, held.host)


def _scoring(work: Work, held: Standing) -> Phase:
    device = _still(held) | {"activations": activations(work).scoring * FRAGMENTS}
    return Phase("score", device, held.host)


def _training(work: Work, spread: Spread, held: Standing) -> Phase:
    """Gradients of earlier micro-batches are there; of the only one they come as its activations go."""
    run = activations(work)
    device = _still(held)
    table = work.network.embedding * BYTES[work.weights] if work.lora is None else 0
    if spread.sharded:
        device |= {"gradients": held.gradients if spread.pieces > 1 else 0.0, "gradient bucket": held.bucket}
    elif spread.pieces > 1:
        device["gradients"] = held.gradients
    at_end: float = table
    if spread.pieces == 1 and not spread.sharded:
        at_end = held.gradients + max(table, run.backward - run.kept)
    device["activations"] = max(run.training, at_end) * FRAGMENTS
    device |= _held_back(work, spread)
    return Phase("train", device, held.host)


def _stepping(work: Work, spread: Spread, held: Standing) -> Phase:
    device = _still(held) | {"gradients": held.gradients, "gradient bucket": held.bucket, "step": held.stepping}
    device |= _held_back(work, spread)
    return Phase("update", device, held.host)


def _held_back(work: Work, spread: Spread) -> dict[str, float]:
    return {"held back": activations(work).small * HELD_BACK} if spread.device == "cpu" else {}


def _still(held: Standing) -> dict[str, float]:
    parts = {"weights": held.weights, "gathered weights": held.gathered, "optimizer": held.optimizer}
    return {name: size for name, size in parts.items() if size}
