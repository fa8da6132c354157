"""Fits a score to choices between two answers, and says how often it chooses alike. Rows are chosen, rejected, ..."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlhf_3h.agreement import wilson
from rlhf_3h.fitting import Rows
from rlhf_3h.linear import Floats, Inputs, LinearModel, features
from rlhf_3h.task import Task


def fit_pairs(task: Task, inputs: Inputs) -> LinearModel:
    """The task's model: P(chosen over rejected) = sigmoid of the difference of their scores."""
    from sklearn.linear_model import LogisticRegression

    scale = inputs.numbers.std(0)
    mean, scale = inputs.numbers.mean(0), np.where(scale > 1e-9, scale, 1.0)
    matrix = features(inputs, {}, mean, scale).toarray()
    gaps = matrix[::2] - matrix[1::2]
    both = np.concatenate([gaps, -gaps])
    answers = np.repeat([1, 0], len(gaps))
    model = LogisticRegression(C=task.strength, fit_intercept=False, max_iter=1000).fit(both, answers)
    return LinearModel(
        grader=task.name, views={}, mean=mean, scale=scale, heads=task.heads, coef=model.coef_, bias=np.zeros(1)
    )


def cross_validated_pairs(task: Task, inputs: Inputs, splits: Sequence[tuple[Rows, Rows]]) -> Floats:
    """`[pairs, 2]` scores of chosen and rejected; `splits` are of pairs."""
    result = np.zeros((len(inputs.numbers) // 2, 2))
    for train, test in splits:
        model = fit_pairs(task, inputs[_rows_of(train)])
        result[test] = model.probabilities(inputs[_rows_of(test)]).reshape(-1, 2)
    return result


def figures_of_pairs(scores: Floats) -> dict[str, float]:
    """How often the chosen answer has the higher score; a tie counts half."""
    wins = float((scores[:, 0] > scores[:, 1]).sum() + 0.5 * (scores[:, 0] == scores[:, 1]).sum())
    low, high = wilson(wins, len(scores))
    found = {"pairs": len(scores), "accuracy": wins / len(scores), "accuracy_low": low, "accuracy_high": high}
    return {name: round(float(value), 4) for name, value in found.items()} | {"majority": 0.5}


def _rows_of(pairs: Rows) -> Rows:
    return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()
