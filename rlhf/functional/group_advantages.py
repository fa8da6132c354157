"""Advantages from the other samples of the same prompt, without a value model.

`scores_B` are the rows' scores and `group_B` an integer per row, equal for samples of one prompt (any integers, any
order). A sample that is alone in its group has nothing to be compared with: its advantage is 0, not its score.

All is computed in float64: in float32 the mean of equal scores may miss them by a digit, and the square of a score
beyond 1e19 is infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP_EPS = 1e-6
"""Added to a group's standard deviation or mean before dividing by it."""


def leave_one_out_baseline(scores_B: Tensor, group_B: Tensor, valid_B: Tensor | None = None) -> Tensor:
    """Mean score of the *other* valid rows of each row's group, `[B]`; the row's own score where there are none.

    Rows that are not valid (bool `valid_B`) count for nobody, but still get a baseline themselves.
    """
    valid = torch.ones_like(group_B, dtype=torch.bool) if valid_B is None else valid_B
    own = torch.where(valid, scores_B, 0).double()
    others = _group_sum(valid.double(), group_B) - valid.double()
    baseline = (_group_sum(own, group_B) - own) / others.clamp(min=1)
    return torch.where(others > 0, baseline, scores_B.double()).to(scores_B.dtype)


def rloo_advantages(scores_B: Tensor, group_B: Tensor) -> Tensor:
    """`A_i = s_i - mean_{j != i} s_j`, `[B]`: REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740)."""
    return scores_B - leave_one_out_baseline(scores_B, group_B)


def grpo_advantages(scores_B: Tensor, group_B: Tensor, *, divide_by_std: bool) -> Tensor:
    """`A_i = (s_i - mean) / (std + 1e-6)`, `[B]`, with the unbiased std (Shao et al. 2024, arXiv:2402.03300).

    `divide_by_std=False` leaves the division out, which weighs every prompt alike (Dr. GRPO, arXiv:2503.20783).
    """
    scores, size = scores_B.double(), _group_size(group_B)
    centred = scores - _group_sum(scores, group_B) / size
    if not divide_by_std:
        return centred.to(scores_B.dtype)
    std = (_group_sum(centred.square(), group_B) / (size - 1).clamp(min=1)).sqrt()
    return (centred / (std + GROUP_EPS)).to(scores_B.dtype)


def maxrl_advantages(scores_B: Tensor, group_B: Tensor) -> Tensor:
    """`A_i = (s_i - mean) / (mean + 1e-6)`, `[B]`, for scores of at least 0 (MaxRL: maximum-likelihood RL).

    Dividing by the success rate gives rarely solved prompts the weight that maximising log p(success) gives them.
    """
    scores = scores_B.double()
    mean = _group_sum(scores, group_B) / _group_size(group_B)
    return ((scores - mean) / (mean + GROUP_EPS)).to(scores_B.dtype)


def varied_groups(scores_B: Tensor, group_B: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Bool `[B]`: does the row's group have scores that differ by more than `tolerance`?

    The others say nothing of which sample is better (DAPO, arXiv:2503.14476, section 3.2). A judge's equal scores may
    differ in their last digit, hence the tolerance.
    """
    names, index_B = torch.unique(group_B, return_inverse=True)
    empty_G = scores_B.new_zeros(len(names))
    highest_G = empty_G.scatter_reduce(0, index_B, scores_B, "amax", include_self=False)
    lowest_G = empty_G.scatter_reduce(0, index_B, scores_B, "amin", include_self=False)
    return (highest_G - lowest_G > tolerance)[index_B]


def _group_sum(x_B: Tensor, group_B: Tensor) -> Tensor:
    """Each row's group total, `[B]`."""
    names, index_B = torch.unique(group_B, return_inverse=True)
    return x_B.new_zeros(len(names)).index_add(0, index_B, x_B)[index_B]


def _group_size(group_B: Tensor) -> Tensor:
    return _group_sum(torch.ones_like(group_B, dtype=torch.float64), group_B)
