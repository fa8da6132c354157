"""What an evaluation found, and the files it leaves in a run folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.config.secrets import masked
from rlhf.evaluation.statistics import Estimate
from rlhf.types import Axis, Grade, Rollout


@dataclass(frozen=True, kw_only=True)
class GradedRollout:
    """A completion and the verdict on it."""

    rollout: Rollout
    grade: Grade


@dataclass(frozen=True, kw_only=True)
class AxisScore:
    """One axis: its mean over prompts (None where every grade failed) and how many grades failed."""

    estimate: Estimate | None
    failed: int


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """A model put through a suite. `dropped` prompts did not fit the model's context."""

    suite: str
    axes: Mapping[Axis, AxisScore]
    graded: tuple[GradedRollout, ...]
    dropped: int
    answering: Mapping[str, float] = field(default_factory=dict)
    """What choosing among samples gained and cost; nothing where a model answered as it is."""

    def scores(self) -> dict[str, float | None]:
        """Mean of each axis: `before` or `after` of summary.json."""
        return {axis: score.estimate.value if score.estimate else None for axis, score in self.axes.items()}

    def intervals(self) -> dict[str, list[float | None] | None]:
        """`[low, high]` of each axis: what summary.json holds under `intervals`."""
        return {axis: bounds(score.estimate) for axis, score in self.axes.items()}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json`: no rollouts, no NaN."""
        chosen = {"answering": dict(self.answering)} if self.answering else {}
        return chosen | {
            "suite": self.suite,
            "dropped": self.dropped,
            "axes": {
                axis: {
                    "mean": score.estimate.value if score.estimate else None,
                    "interval": bounds(score.estimate),
                    "n": score.estimate.n if score.estimate else 0,
                    "failed": score.failed,
                }
                for axis, score in self.axes.items()
            },
        }

    def write_rows(self, path: Path) -> None:
        """`evaluation/<label>.jsonl`: one line a completion, in the order graded."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(_row(item), ensure_ascii=False) + "\n" for item in self.graded]
        path.write_bytes("".join(lines).encode("utf-8", "backslashreplace"))


def bounds(estimate: Estimate | None) -> list[float | None] | None:
    """`[low, high]`, with None for an endless side, which JSON has no word for."""
    if estimate is None:
        return None
    return [end if math.isfinite(end) else None for end in (estimate.low, estimate.high)]


def _row(item: GradedRollout) -> dict[str, Any]:
    prompt, grade = item.rollout.prompt, item.grade
    row = {
        "id": prompt.id,
        "axis": grade.axis,
        "task": prompt.metadata.get("task"),
        "prompt": prompt.last_user_text,
        "completion": item.rollout.completion.text,
        "finish_reason": item.rollout.completion.finish_reason,
        "score": grade.score,
        "rationale": masked(grade.rationale),
    }
    return row if grade.error is None else row | {"error": masked(grade.error)}
