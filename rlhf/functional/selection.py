"""Choosing among samples of one prompt: the best of n, and rejection sampling; and what choosing costs in KL.

`scores_B` are the rows' scores and `group_B` an integer per row, equal for samples of one prompt (any integers, any
order of prompts). Of equal scores the earlier row counts as the better one, so that a choice is never random.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def best_of_group(scores_B: Tensor, group_B: Tensor, keep: int = 1, eligible_B: Tensor | None = None) -> Tensor:
    """Bool `[B]`: the `keep` best rows of each group, fewer where fewer are eligible (bool `eligible_B`)."""
    eligible = torch.ones_like(group_B, dtype=torch.bool) if eligible_B is None else eligible_B
    row = torch.arange(len(scores_B), device=scores_B.device)
    ahead = scores_B[:, None] > scores_B[None, :]
    tied = (scores_B[:, None] == scores_B[None, :]) & (row[:, None] < row[None, :])
    rivals = (group_B[:, None] == group_B[None, :]) & eligible[:, None]
    return eligible & ((rivals & (ahead | tied)).sum(0) < keep)


def first_accepted(scores_B: Tensor, group_B: Tensor, uniform_B: Tensor, beta: float) -> Tensor:
    """Bool `[B]`: in each group the first row with `u < exp((s - max s) / beta)`, `u` uniform in [0, 1).

    Statistical rejection sampling (Liu et al. 2023, RSO, arXiv:2309.06657, section 3.2): with many rows a group, the
    accepted one is a sample of `pi(y) exp(s(y) / beta) / Z`. The best row is always accepted, so each group has one;
    beta -> 0 is the best of n, beta -> infinity the first sample.
    """
    names, index_B = torch.unique(group_B, return_inverse=True)
    lowest = torch.full((len(names),), -math.inf, dtype=scores_B.dtype, device=scores_B.device)
    best_B = lowest.scatter_reduce(0, index_B, scores_B, "amax")[index_B]
    accepted_B = uniform_B < ((scores_B - best_B) / beta).exp()
    row = torch.arange(len(scores_B), device=scores_B.device)
    earlier = (group_B[:, None] == group_B[None, :]) & accepted_B[:, None] & (row[:, None] < row[None, :])
    return accepted_B & ~earlier.any(0)


def best_of_n_kl(n: int) -> float:
    """`log n - (n - 1) / n` nats: how far the best of n samples can be from the policy that drew them.

    Exact where no two samples are equal (a continuous policy without ties in the score), an upper bound else: Beirami
    et al. 2024 (arXiv:2401.01879), theorem 3.1. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"the best of n needs n of at least 1, but n is {n}")
    return math.log(n) - (n - 1) / n
