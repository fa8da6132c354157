"""Fits linear models with scikit-learn, and says what they reach on questions they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.errors import DataError
from rlhf_3h.agreement import brier_score, expected_calibration_error, wilson
from rlhf_3h.linear import Floats, Inputs, LinearModel, View, features, hashed
from rlhf_3h.task import Example, Item, Task

Rows = NDArray[np.intp]
FOLDS = 5
_RARE = 2  # rows a term must be in


def inputs_of(task: Task, items: Sequence[Item]) -> Inputs:
    """What the task's model reads of these items."""
    terms = [task.terms(item) for item in items]
    numbers = np.array([task.numbers(item) for item in items], np.float64).reshape(len(items), task.num_numbers)
    return Inputs(counts={view: hashed([t[view] for t in terms]) for view in task.views}, numbers=numbers)


def targets_of(task: Task, examples: Sequence[Example]) -> Floats:
    """`[rows, heads]`: 0, 1, or NaN where nobody said."""
    return np.array([[example.targets.get(head, np.nan) for head in task.heads] for example in examples])


def fit(task: Task, inputs: Inputs, targets: Floats) -> LinearModel:
    """The task's model, trained on these rows; a head learns from the rows that have a target for it."""
    from sklearn.linear_model import LogisticRegression

    views = {name: _view(inputs, name) for name in task.views}
    mean = inputs.numbers.mean(0) if len(inputs.numbers) else np.zeros(task.num_numbers)
    scale = inputs.numbers.std(0) if len(inputs.numbers) else np.ones(task.num_numbers)
    scale = np.where(scale > 1e-9, scale, 1.0)
    matrix = features(inputs, views, mean, scale)
    coef, bias = np.zeros((len(task.heads), matrix.shape[1])), np.zeros(len(task.heads))
    for number, head in enumerate(task.heads):
        known = np.flatnonzero(~np.isnan(targets[:, number]))
        wanted = targets[known, number]
        if len(set(wanted)) < 2:
            raise DataError(f"grader {task.name}: {head!r} needs rows of both kinds, given {len(known)} of one or none")
        model = LogisticRegression(C=task.strength, max_iter=1000).fit(matrix[known], wanted)
        coef[number], bias[number] = model.coef_[0], model.intercept_[0]
    return LinearModel(grader=task.name, views=views, mean=mean, scale=scale, heads=task.heads, coef=coef, bias=bias)


def _view(inputs: Inputs, name: str) -> View:
    counts = inputs.counts[name]
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    columns = np.flatnonzero(frequency >= min(_RARE, counts.shape[0]))
    idf = np.log((1 + counts.shape[0]) / (1 + frequency[columns])) + 1
    return View(columns=columns.astype(np.int32), idf=idf.astype(np.float32))


def folds(groups: Sequence[str], count: int = FOLDS, seed: int = 0) -> list[tuple[Rows, Rows]]:
    """(train, test) rows; no group is on both sides, and every row is tested once. `DataError` with too few groups."""
    from sklearn.model_selection import GroupKFold

    if len(set(groups)) < count:
        raise DataError(
            f"{len(set(groups))} different questions are too few to hold a fifth of them back; give more rows"
        )
    rows = np.arange(len(groups))
    splits: list[tuple[Rows, Rows]] = list(
        GroupKFold(count, shuffle=True, random_state=seed).split(rows, groups=np.array(groups))
    )
    return splits


def cross_validated(task: Task, inputs: Inputs, targets: Floats, splits: Sequence[tuple[Rows, Rows]]) -> Floats:
    """`[rows, heads]` probabilities, each from a model that was not trained on that row's group."""
    result = np.full(targets.shape, np.nan)
    for train, test in splits:
        result[test] = fit(task, inputs[train], targets[train]).probabilities(inputs[test])
    return result


def figures(heads: Sequence[str], targets: Floats, probabilities: Floats) -> dict[str, float]:
    """Accuracy with its 95 % interval, the majority's, calibration: of every head, `HEAD/` before all names but a lone
    head's.
    """
    found: dict[str, float] = {}
    for number, head in enumerate(heads):
        known = ~np.isnan(targets[:, number])
        wanted, said = targets[known, number], probabilities[known, number]
        right, n = int(((said > 0.5) == (wanted > 0.5)).sum()), int(known.sum())
        low, high = wilson(right, n)
        mine: dict[str, Any] = {
            "rows": n,
            "accuracy": right / n,
            "accuracy_low": low,
            "accuracy_high": high,
            "majority": max(wanted.mean(), 1 - wanted.mean()),
            "average_precision": _average_precision(wanted, said),
            "base_rate": wanted.mean(),
            "brier": brier_score(said.tolist(), wanted.tolist()),
            "calibration_error": expected_calibration_error(said.tolist(), wanted.tolist()),
        }
        prefix = f"{head}/" if len(heads) > 1 else ""
        found |= {f"{prefix}{name}": round(float(value), 4) for name, value in mine.items()}
    return found


def _average_precision(wanted: Floats, said: Floats) -> float:
    """Area under the precision-recall curve."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(wanted, said))
