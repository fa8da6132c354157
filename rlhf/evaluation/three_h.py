"""The 3H table of a run: each axis before and after, the difference, and how sure each figure is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from rlhf.evaluation.run_folder import RunRecord
from rlhf.evaluation.statistics import Estimate, mean_interval, mean_of_groups, paired_difference
from rlhf.types import Axis

AXES: tuple[str, ...] = get_args(Axis)
MEAN_ROW = "mean of the three"


@dataclass(frozen=True, kw_only=True)
class AxisRow:
    """One line of the table: an estimate by label, and `after - before` where both are known."""

    name: str
    estimates: Mapping[str, Estimate]
    difference: Estimate | None


def labels_of(run: RunRecord) -> list[str]:
    """Models evaluated in this run: before, after, then any others."""
    known = [label for label in ("before", "after") if label in run.evaluations or label in run.summary]
    return known + [label for label in run.evaluations if label not in known]


def axis_rows(run: RunRecord) -> list[AxisRow]:
    """The three axes and their mean; an axis no label has a figure for is left out."""
    labels = labels_of(run)
    rows = []
    for axis in AXES:
        found = {label: estimate for label in labels if (estimate := _estimate(run, label, axis)) is not None}
        if found:
            rows.append(AxisRow(name=axis, estimates=found, difference=_difference(run, found, (axis,))))
    if len(rows) == len(AXES):
        means = {label: mean for label in labels if (mean := _mean(run, label, rows)) is not None}
        rows.append(AxisRow(name=MEAN_ROW, estimates=means, difference=_difference(run, means, AXES)))
    return rows


def scores_by_prompt(rows: Sequence[Mapping[str, Any]], axis: str) -> dict[str, float]:
    """Mean score of each prompt of an axis; failed grades are left out."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        score = _number(row.get("score"))
        if row.get("axis") == axis and score is not None:
            scores.setdefault(str(row.get("id")), []).append(score)
    return {key: sum(values) / len(values) for key, values in scores.items()}


def _estimate(run: RunRecord, label: str, axis: str) -> Estimate | None:
    """The summary's own figure and interval; what it lacks is computed from the graded rows."""
    scores = list(scores_by_prompt(run.evaluations.get(label, ()), axis).values())
    computed = mean_interval(scores) if scores else None
    value = _number(_within(run.summary, label, axis))
    if value is None:
        return computed
    interval = _within(run.summary, "intervals", label, axis)
    if isinstance(interval, list) and len(interval) == 2:
        low, high = (_number(end) for end in interval)
        low, high = -math.inf if low is None else low, math.inf if high is None else high
    elif computed is not None:
        low, high = computed.low, computed.high
    else:
        low = high = math.nan
    return Estimate(value=value, low=low, high=high, n=len(scores))


def _mean(run: RunRecord, label: str, rows: Sequence[AxisRow]) -> Estimate | None:
    """Mean of the axes as shown, with a stratified interval where the graded rows are there."""
    if not all(label in row.estimates for row in rows):
        return None
    value = sum(row.estimates[label].value for row in rows) / len(rows)
    groups = [list(scores_by_prompt(run.evaluations.get(label, ()), axis).values()) for axis in AXES]
    if not all(groups):
        return Estimate(value=value, low=math.nan, high=math.nan, n=0)
    interval = mean_of_groups(groups)
    return Estimate(value=value, low=interval.low, high=interval.high, n=interval.n)


def _difference(run: RunRecord, estimates: Mapping[str, Estimate], axes: Sequence[str]) -> Estimate | None:
    """`after - before`; its interval is paired by prompt, over those graded both times."""
    if "before" not in estimates or "after" not in estimates:
        return None
    value = estimates["after"].value - estimates["before"].value
    pairs = [_pairs(run, axis) for axis in axes]
    if not all(before for before, _ in pairs):
        return Estimate(value=value, low=math.nan, high=math.nan, n=0)
    if len(pairs) == 1:
        paired = paired_difference(*pairs[0])
    else:
        paired = mean_of_groups([[a - b for b, a in zip(*pair, strict=True)] for pair in pairs])
    return Estimate(value=value, low=paired.low, high=paired.high, n=paired.n)


def _pairs(run: RunRecord, axis: str) -> tuple[list[float], list[float]]:
    before = scores_by_prompt(run.evaluations.get("before", ()), axis)
    after = scores_by_prompt(run.evaluations.get("after", ()), axis)
    both = [key for key in before if key in after]
    return [before[key] for key in both], [after[key] for key in both]


def _within(table: Any, *path: str) -> Any:
    for key in path:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
