"""Weights from the policy to the rollout engine, and the proof that they arrived: fingerprints of both sides agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rlhf.errors import RunError
from rlhf.types import Fingerprint

Fingerprints = Mapping[str, Fingerprint]

_ROUNDING = {"torch.float32": 1e-5, "torch.bfloat16": 2**-7, "torch.float16": 2**-10}
"""Relative; by how much an element may differ to which an adapter was added in another order of sums."""


@dataclass(frozen=True)
class Parcel:
    """Weights of one version on their way, and what whoever holds them afterwards is compared with."""

    weights: Iterator[tuple[str, Tensor]]
    version: int
    given: Fingerprints | None
    before: Fingerprints
    """Of the version before."""
    say_unproved: Callable[[str], None]

    def deliver(self, rollout: Any) -> None:
        """Load, then compare what the engine holds with what the trainer's parameters were. Raises `RunError`."""
        rollout.load_weights(self.weights, self.version)
        told = getattr(rollout, "fingerprints", None)
        self.require(told() if told is not None else None)

    def require(self, held: Fingerprints | None) -> None:
        """Raise `RunError`, by the weight's name, if an engine does not hold what was given."""
        if self.given is None or held is None:
            self.say_unproved("train" if self.given is None else "rollout")
        else:
            who = f"after hand-over {self.version} of weights, the rollout engine"
            require_same(self.given, held, self.before, who)


class Handover:
    """Hands weights over, version after version. One that differs on the other side stops the run, by name.

    With `adapters_apart` all weights go once, and from then on adapters alone; the proof is always of all.
    """

    def __init__(self, note: Callable[[str], None], *, adapters_apart: bool = False) -> None:
        self._note = note
        self._adapters_apart = adapters_apart
        self._has_base = False
        self._has_noted = False
        self._before: Fingerprints = {}

    def __call__(self, policy: Any, rollout: Any, version: int) -> None:
        """From one to the other, now."""
        self.parcel(policy, version).deliver(rollout)

    def parcel(self, policy: Any, version: int) -> Parcel:
        """The policy's weights as they are now. An engine in this process gives views: deliver those at once."""
        known = self._adapters_apart and self._has_base
        weights = policy.weights(base=False) if known else policy.weights()
        self._has_base = True
        told = getattr(policy, "fingerprints", None)
        given = told() if told is not None else None
        parcel = Parcel(weights, version, given, self._before, self._say_unproved)
        self._before = given or {}
        return parcel

    def _say_unproved(self, side: str) -> None:
        if not self._has_noted:
            self._note(f"weights are handed over without proof: the {side} engine has no fingerprints()")
            self._has_noted = True


def require_same(given: Fingerprints, held: Fingerprints, before: Fingerprints, who: str) -> None:
    """Raise `RunError` naming the first weight of `given` that `held` has not, and what has likely happened to it.

    `before` are the fingerprints of the hand-over before this one.
    """
    wrong = [name for name, wanted in given.items() if not _is_same(wanted, held.get(name))]
    if wrong:
        name = wrong[0]
        raise RunError(
            f"{who} does not hold {len(wrong)} of the trainer's {len(given)} weights, first {name!r}: "
            f"{_cause(name, given, held.get(name), before)}"
        )
    if extra := sorted(held.keys() - given.keys()):
        raise RunError(f"{who} holds {len(extra)} weights the trainer has not, first {extra[0]!r}")


def _is_same(given: Fingerprint, held: Fingerprint | None) -> bool:
    if held is None or (given.shape, given.dtype) != (held.shape, held.dtype):
        return False
    if given.values == held.values:
        return True
    rounding = _ROUNDING.get(given.dtype, 0.0)
    return (given.merged or held.merged) and all(
        abs(a - b) <= 1e-6 + rounding * abs(a) for a, b in zip(given.values, held.values, strict=True)
    )


def _cause(name: str, given: Fingerprints, held: Fingerprint | None, before: Fingerprints) -> str:
    wanted = given[name]
    if held is None:
        return "it never got there"
    if held.shape != wanted.shape:
        return f"its shape is {held.shape}, the trainer's {wanted.shape}"
    if held.dtype != wanted.dtype:
        return f"its format is {held.dtype}, the trainer's {wanted.dtype}; give both the same model.dtype"
    if (other := _owner(held, given)) is not None:
        return f"what is there is the trainer's {other!r}; two weights were exchanged"
    if name in before and _is_same(before[name], held):
        return "what is there is what was there before; it was not loaded (a tied head sent under one name only?)"
    if wanted.merged:
        return "its adapter was not merged into it, or an old one was"
    differing = sum(a != b for a, b in zip(wanted.values, held.values, strict=True))
    return f"{differing} of {len(wanted.values)} elements looked at differ; it is stale, or was changed on the way"


def _owner(held: Fingerprint, given: Fingerprints) -> str | None:
    """The weight whose elements these are; what is alike everywhere, as a fresh norm is, is nobody's."""
    if len(set(held.values)) == 1:
        return None
    looks = (held.shape, held.values)
    return next((name for name, other in given.items() if (other.shape, other.values) == looks), None)
