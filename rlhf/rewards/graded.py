"""A grader as a reward or a cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import field_validator

from rlhf.config import Part, PartConfig
from rlhf.config.secrets import masked
from rlhf.protocols import Parts
from rlhf.types import Grade, Rollout, Score


class GradedConfig(PartConfig):
    """Options of `graded`."""

    grader: Part
    """A registered grader: its name, or a table of `type` and its options."""
    invert: bool = False
    """1 less the score, so that what a grader likes costs nothing."""

    @field_validator("grader", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


class Graded:
    """The grader's score of each rollout, 0 to 1; None for prompts of another axis and where the grader does not apply.
    A failed grade is an error.
    """

    def __init__(self, config: GradedConfig, parts: Parts) -> None:
        self.config = config
        self.grader = parts.grader(config.grader.type, config.grader.options)
        self.columns = tuple(getattr(self.grader, "columns", ()))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        axis = self.grader.axis
        mine = [number for number, r in enumerate(rollouts) if r.prompt.metadata.get("axis", axis) == axis]
        scores = [Score()] * len(rollouts)
        for number, grade in zip(mine, self.grader.grade([rollouts[number] for number in mine]), strict=True):
            scores[number] = self._score(grade)
        return scores

    def _score(self, grade: Grade) -> Score:
        if grade.score is None:
            return Score(error=None if grade.error is None else masked(grade.error))
        return Score(value=1.0 - grade.score if self.config.invert else grade.score)
