"""What says how good a completion is, and what it may ask for when it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rlhf.types import (
    Axis,
    Grade,
    Rollout,
    Score,
)


@runtime_checkable
class RewardFn(Protocol):
    """Scores rollouts. Plain `def reward(prompts, completions, **columns) -> list[float]` is adapted to this.

    An attribute `columns` (names), where there is one, says which columns of the data it cannot do without; a stage
    whose data lacks one is refused before its models load. They are in `rollout.prompt.metadata`, but for `reference`.
    """

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float | Score | None]:
        """For each rollout, in order, a finite number or a `Score`; None where this reward does not apply.

        Rows are judged one by one: neither their order nor their company changes an answer. One that cannot be judged
        is `Score(error=...)`, never a number.
        """
        ...


class Grader(Protocol):
    """Judges rollouts on one of the three axes. `columns` as of a reward."""

    axis: Axis

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]: ...


class TrainableGrader(Protocol):
    """What a grader's factory may have besides: a class or static method that trains it, for `rlhf graders train`."""

    def train(self, config: Any, rows: Sequence[Mapping[str, Any]], folder: Path) -> Mapping[str, float | str]:
        """Learn from labelled rows (as read from the user's files, in order) and write what was learnt into `folder`.

        Returns figures by name, measured on rows it was not trained on, and words on how they were measured. `config`
        holds the grader's options. Rows of a wrong form are a `DataError` that says which columns are wanted.
        """
        ...


JudgingRole = Literal["reward", "cost"]
HeadScores = Mapping[str, list[float]]
"""Scores of rollouts, in their order, by the name of a model's head."""


class Parts(Protocol):
    """What a reward or grader may ask the run for when it is built; siblings meet here."""

    def grader(self, name: str, options: Mapping[str, Any] | None = None) -> Grader:
        """A registered grader, with these options or its default ones."""
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
