"""A grader as a reward or a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout


class GradedConfig(PartConfig):
    """Options of `graded`."""

    grader: str
    """A registered grader, with its default options."""
    invert: bool = False
    """1 less the score, so that what a grader likes costs nothing."""


class Graded:
    """The grader's score of each rollout, 0 to 1; None for prompts of another axis. A failed grade is an error."""

    def __init__(self, config: GradedConfig, parts: Parts) -> None:
        self.config = config
        self.grader = parts.grader(config.grader)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        axis = self.grader.axis
        mine = [number for number, r in enumerate(rollouts) if r.prompt.metadata.get("axis", axis) == axis]
        values: list[float | None] = [None] * len(rollouts)
        for number, grade in zip(mine, self.grader.grade([rollouts[number] for number in mine]), strict=True):
            score = math.nan if grade.score is None else grade.score
            values[number] = 1.0 - score if self.config.invert else score
        return values
