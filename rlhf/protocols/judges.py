"""What says how good a completion is, and what it may ask for when it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from rlhf.types import (
    Axis,
    Grade,
    Rollout,
)


@runtime_checkable
class RewardFn(Protocol):
    """Scores rollouts. Plain `def reward(prompts, completions, **columns) -> list[float]` is adapted to this."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One finite number a rollout, or None where this reward does not apply."""
        ...


class Grader(Protocol):
    """Judges rollouts on one of the three axes."""

    axis: Axis

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]: ...


JudgingRole = Literal["reward", "cost"]
HeadScores = Mapping[str, list[float]]
"""Scores of rollouts, in their order, by the name of a model's head."""


class Parts(Protocol):
    """What a reward or grader may ask the run for when it is built; siblings meet here."""

    def grader(self, name: str) -> Grader:
        """A registered grader with its default options."""
        ...

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Scores of the stage's reward model, which lives in its own role: the sum of its heads, the mean of an
        ensemble's members.
        """
        ...

    def model_scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        """Of each member of the stage's reward or cost model, the scores of the rollouts by head."""
        ...

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        """Of each member, the score of every step of each rollout; steps are what `separator` parts."""
        ...

    def model_heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        """Names of the heads of each member; a lone head is called `score`."""
        ...
