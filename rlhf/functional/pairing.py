"""Pairs of completions from scores, for methods that learn from preferences of their own making."""

from __future__ import annotations

import torch
from torch import Tensor

TIE = 1e-6
"""Scores that differ by no more than this are equal: judges and reward models round."""


def best_and_worst(scores_B: Tensor, group_B: Tensor) -> Tensor:
    """Row indices `[P, 2]` of the best and the worst of each group, groups in ascending order, the earlier of equals.

    A group whose scores are all equal, or that has a single row, prefers nothing and gives no pair.
    """
    pairs = []
    for group in torch.unique(group_B):
        rows = torch.where(group_B == group)[0]
        best, worst = rows[scores_B[rows].argmax()], rows[scores_B[rows].argmin()]
        if scores_B[best] - scores_B[worst] > TIE:
            pairs.append(torch.stack([best, worst]))
    return torch.stack(pairs) if pairs else group_B.new_zeros((0, 2))
