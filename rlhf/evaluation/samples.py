"""Completions side by side: what the model said before and after, and what it said along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.evaluation.run_folder import RunRecord, StageRecord
from rlhf.evaluation.three_h import AXES, labels_of, scores_by_prompt

PER_AXIS = 6
FALLEN = 6
PER_STEP = 5
RECURRING = 8
_FEW = 4  # fewer recurring prompts than this tell less than a plain look at both ends

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


@dataclass(frozen=True, kw_only=True)
class AlongTheWay:
    """Rollouts logged in training: early and late answers to the same prompts, or else those of both ends."""

    pairs: Sequence[tuple[Row, Row]] = ()
    ends: Sequence[Row] = ()

    def __bool__(self) -> bool:
        return bool(self.pairs or self.ends)


def along_the_way(stage: StageRecord) -> AlongTheWay:
    """How the answers changed: side by side where enough prompts came up both early and late."""
    logged = [row for row in stage.samples if isinstance(row.get("step"), int)]
    steps = sorted({row["step"] for row in logged})
    if not steps:
        return AlongTheWay()
    pairs = _recurring(logged, half_way=(steps[-1] - steps[0]) / 2)
    if len(pairs) >= _FEW:
        return AlongTheWay(pairs=pairs)
    ends = dict.fromkeys([steps[0], steps[-1]])
    return AlongTheWay(ends=[row for step in ends for row in [r for r in logged if r["step"] == step][:PER_STEP]])


def _recurring(logged: Sequence[Row], half_way: float) -> list[tuple[Row, Row]]:
    """First and last rollout of prompts seen at least half the run apart, the furthest apart first."""
    by_prompt: dict[str, list[Row]] = {}
    for row in logged:
        by_prompt.setdefault(str(row.get("prompt_id", row.get("prompt"))), []).append(row)
    found = []
    for rows in by_prompt.values():
        first, last = min(rows, key=_step), max(rows, key=_step)
        if _step(last) > _step(first) and _step(last) - _step(first) >= half_way:
            found.append((first, last))
    found.sort(key=lambda pair: _step(pair[0]) - _step(pair[1]))
    return found[:RECURRING]


def _step(row: Row) -> int:
    return int(row["step"])


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
