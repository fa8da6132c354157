"""The reward of a rollout: the weighted sum of its parts, each checked. A part that fails is an error, never a zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from rlhf.errors import RewardError, RunError, UserError
from rlhf.protocols import RewardFn
from rlhf.types import Rollout, Score


@dataclass(frozen=True)
class WeightedReward:
    """One part: its name, unlike any other's, its weight, and what scores."""

    name: str
    weight: float
    reward: RewardFn


@dataclass(frozen=True)
class Judgement:
    """The weighted sum and its parts, or the error that prevented it."""

    total: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class Rubric:
    """Judges rollouts by all parts.

    A part may answer None for a rollout it does not speak of. A rollout no part speaks of is worth `otherwise`; where
    that is None, or a part is not a finite number, its `error` is set. A part that raises, or does not return one
    number a rollout, ends the run. `what` is what errors call a part: a reward or a cost.
    """

    def __init__(self, parts: Sequence[WeightedReward], what: str = "reward", otherwise: float | None = None) -> None:
        self.parts = tuple(parts)
        self.what = what
        self.otherwise = otherwise

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same rollouts, in order, with `reward` and `reward_parts`, or `error`."""
        judged = zip(rollouts, self.judge(rollouts), strict=True)
        return [replace(r, reward=j.total, reward_parts=j.parts, error=j.error) for r, j in judged]

    def judge(self, rollouts: Sequence[Rollout]) -> list[Judgement]:
        """One judgement a rollout, in order."""
        answers = {part.name: _checked(part, rollouts, self.what) for part in self.parts}
        return [self._judged({name: values[i] for name, values in answers.items()}) for i in range(len(rollouts))]

    def _judged(self, answers: dict[str, Score]) -> Judgement:
        for name, score in answers.items():
            if score.error is not None:
                return Judgement(error=f"{self.what} {name!r}: {score.error}")
        applying = {name: score.value for name, score in answers.items() if score.value is not None}
        if not applying and self.otherwise is None:
            return Judgement(error=f"no {self.what} applies (all of {', '.join(answers)} gave None)")
        for name, value in applying.items():
            if not math.isfinite(value):
                return Judgement(error=f"{self.what} {name!r} gave {value}")
        total = sum(part.weight * applying[part.name] for part in self.parts if part.name in applying)
        return Judgement(total=total if applying else self.otherwise, parts=applying)


def _checked(part: WeightedReward, rollouts: Sequence[Rollout], what: str) -> list[Score]:
    """The part's answers, one a rollout; `RewardError` naming the part for anything else."""
    try:
        values: object = part.reward(rollouts)
    except (RunError, UserError):  # has its own words: a dead worker stays a dead worker
        raise
    except Exception as error:  # a plugin's exception, whatever it is, is the run's root cause
        raise RewardError(f"{what} {part.name!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(values, Iterable) or isinstance(values, str | Mapping | AbstractSet):
        raise RewardError(f"{what} {part.name!r} must return a list, given {type(values).__name__}")
    items = list(values)
    if len(items) != len(rollouts):
        raise RewardError(f"{what} {part.name!r} returned {len(items)} numbers for {len(rollouts)} completions")
    return [_as_score(item, part.name, what) for item in items]


def _as_score(item: Any, name: str, what: str) -> Score:
    if item is None or isinstance(item, Score):
        return item or Score()
    try:
        if isinstance(item, str):  # float("1") would pass for a number
            raise TypeError
        return Score(value=float(item))
    except (TypeError, ValueError):
        raise RewardError(f"{what} {name!r} must return numbers, Score or None, given {item!r} among them") from None
