"""The reward of a rollout: the weighted sum of its parts, each checked. A part that fails is an error, never a zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from rlhf.errors import RewardError, RunError, UserError
from rlhf.protocols import RewardFn
from rlhf.types import Rollout


@dataclass(frozen=True)
class WeightedReward:
    """One part: its name, unlike any other's, its weight, and what scores."""

    name: str
    weight: float
    reward: RewardFn


class Rubric:
    """Scores rollouts by all parts.

    A part may answer None for a rollout it does not speak of. A rollout no part speaks of, or for which one is not a
    finite number, has its `error` set. A part that raises, or does not return one number a rollout, ends the run.
    """

    def __init__(self, parts: Sequence[WeightedReward]) -> None:
        self.parts = tuple(parts)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, with `reward` and `reward_parts`, or `error`."""
        answers = {part.name: _checked(part, rollouts) for part in self.parts}
        return [self._scored(rollout, {n: v[i] for n, v in answers.items()}) for i, rollout in enumerate(rollouts)]

    def _scored(self, rollout: Rollout, answers: dict[str, float | None]) -> Rollout:
        applying = {name: value for name, value in answers.items() if value is not None}
        if not applying:
            return replace(rollout, error=f"no reward applies (all of {', '.join(answers)} gave None)")
        for name, value in applying.items():
            if not math.isfinite(value):
                return replace(rollout, error=f"reward {name!r} gave {value}")
        total = sum(part.weight * applying[part.name] for part in self.parts if part.name in applying)
        return replace(rollout, reward=total, reward_parts=applying)


def _checked(part: WeightedReward, rollouts: Sequence[Rollout]) -> list[float | None]:
    """The part's answers as floats, one a rollout; `RewardError` naming the part for anything else."""
    try:
        values: object = part.reward(rollouts)
    except (RunError, UserError):  # has its own words: a dead worker stays a dead worker
        raise
    except Exception as error:  # a plugin's exception, whatever it is, is the run's root cause
        raise RewardError(f"reward {part.name!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(values, Iterable) or isinstance(values, str | Mapping | AbstractSet):
        raise RewardError(f"reward {part.name!r} must return a list, given {type(values).__name__}")
    items = list(values)
    if len(items) != len(rollouts):
        raise RewardError(f"reward {part.name!r} returned {len(items)} numbers for {len(rollouts)} completions")
    return [_as_number(item, part.name) for item in items]


def _as_number(item: Any, name: str) -> float | None:
    if item is None:
        return None
    try:
        if isinstance(item, str):  # float("1") would pass for a number
            raise TypeError
        return float(item)
    except (TypeError, ValueError):
        raise RewardError(f"reward {name!r} must return numbers or None, given {item!r} among them") from None
