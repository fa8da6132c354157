"""Completions side by side: what the model said before and after, and what it said along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.evaluation.run_folder import RunRecord, StageRecord
from rlhf.evaluation.three_h import AXES, labels_of, scores_by_prompt

PER_AXIS = 6
FALLEN = 6
PER_STEP = 4

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt with each model's completion, by label; None where a model was not asked."""

    axis: str
    task: str
    prompt: str
    answers: Sequence[Row | None]


def first_of_each_axis(run: RunRecord) -> list[Pair]:
    """The first few prompts of each axis, whatever came of them: a fair look, not the best ones."""
    keys = [key for axis in AXES for key in _keys(run, axis)[:PER_AXIS]]
    return [_pair(run, key) for key in keys]


def fallen(run: RunRecord) -> list[Pair]:
    """Prompts whose score fell most from before to after, worst first."""
    losses: list[tuple[float, tuple[str, str]]] = []
    for axis in AXES:
        before = scores_by_prompt(run.evaluations.get("before", ()), axis)
        after = scores_by_prompt(run.evaluations.get("after", ()), axis)
        losses += [(after[i] - before[i], (axis, i)) for i in before if i in after and after[i] < before[i]]
    losses.sort()
    return [_pair(run, key) for _, key in losses[:FALLEN]]


def along_the_way(stage: StageRecord) -> list[Row]:
    """A few logged rollouts of the first step and of the last."""
    steps = sorted({row["step"] for row in stage.samples if isinstance(row.get("step"), int)})
    ends = dict.fromkeys([*steps[:1], *steps[-1:]])
    return [row for step in ends for row in [r for r in stage.samples if r.get("step") == step][:PER_STEP]]


def _keys(run: RunRecord, axis: str) -> list[tuple[str, str]]:
    rows = (row for label in labels_of(run) for row in run.evaluations.get(label, ()))
    return list(dict.fromkeys((axis, str(row.get("id"))) for row in rows if row.get("axis") == axis))


def _pair(run: RunRecord, key: tuple[str, str]) -> Pair:
    """All labels' first completion of one prompt."""
    axis, id_ = key
    answers: list[Row | None] = []
    for label in labels_of(run):
        rows = run.evaluations.get(label, ())
        answers.append(next((r for r in rows if str(r.get("id")) == id_ and r.get("axis") == axis), None))
    known = next(answer for answer in answers if answer is not None)
    return Pair(axis=axis, task=str(known.get("task") or ""), prompt=str(known.get("prompt", "")), answers=answers)
