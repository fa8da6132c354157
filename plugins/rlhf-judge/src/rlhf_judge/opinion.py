"""What a judge makes of a rollout, and how rewards and graders hand it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rlhf.types import Axis, Grade, Rollout, Score

LONGEST_RATIONALE = 2000


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """`score` in 0..1, or None with the `error` that prevented it; `parts` are logged beside it."""

    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    rationale: str = ""
    error: str | None = None


class Judge(Protocol):
    """Judges rollouts, one opinion each, in order."""

    columns: tuple[str, ...]

    def judge(self, rollouts: Sequence[Rollout]) -> list[Opinion]: ...


class JudgeReward:
    """A judge as a reward: 0 at the foot of its scale, 1 at the top. What could not be judged is an error."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.columns = judge.columns

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(value=o.score, parts=o.parts, error=o.error) for o in self.judge.judge(rollouts)]


class JudgeGrader:
    """A judge as a grader on one axis. The rationale is the judge's own words."""

    def __init__(self, judge: Judge, axis: Axis) -> None:
        self.judge = judge
        self.axis = axis
        self.columns = judge.columns

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        """One grade a rollout, in order."""
        return [self._grade(opinion) for opinion in self.judge.judge(rollouts)]

    def _grade(self, opinion: Opinion) -> Grade:
        rationale = opinion.rationale[:LONGEST_RATIONALE]
        return Grade(axis=self.axis, score=opinion.score, rationale=rationale, error=opinion.error)
