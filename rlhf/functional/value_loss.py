"""Losses of a value model, per token, and how much of the returns it explains."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ValueLoss(NamedTuple):
    """`[B, T]` each, zero or False outside the mask."""

    losses: Tensor
    clipped: Tensor
    """bool: the clipped error is the larger one, so the token has no gradient."""


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None
) -> ValueLoss:
    """`L_t = max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2) / 2`; all inputs `[B, T]`.

    The form of the PPO code base (Schulman et al. 2017; Huang et al. 2022, "37 implementation details", 9). None: no
    clipping.
    """
    values, old_values, returns = (torch.where(mask, x, 0) for x in (values, old_values, returns))
    unclipped = (values - returns).square()
    if clip is None:
        return ValueLoss(losses=0.5 * unclipped, clipped=torch.zeros_like(mask))
    # Clamped to bounds, not as old + clamp(new - old): inside them the value is the same to the last bit.
    clipped = (values.clamp(old_values - clip, old_values + clip) - returns).square()
    return ValueLoss(losses=0.5 * torch.maximum(unclipped, clipped), clipped=clipped > unclipped)


def value_moments(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """`[n, sum R, sum R^2, sum e, sum e^2]` with `e = R - V`, float64, `[5]`.

    Add the moments of micro-batches and ranks, then take `explained_variance` once: it is exact, where a mean of the
    pieces' explained variances is not.
    """
    kept = torch.where(mask, returns, 0).double()
    errors = torch.where(mask, returns - values, 0).double()
    return torch.stack([mask.sum().double(), kept.sum(), kept.square().sum(), errors.sum(), errors.square().sum()])


def explained_variance(moments: Tensor) -> float:
    """`1 - Var[R - V] / Var[R]`: 1 is perfect, 0 no better than a constant, below 0 worse.

    0 where the returns do not vary (beyond rounding), since there is then nothing to explain.
    """
    count, sum_r, sum_r2, sum_e, sum_e2 = moments.tolist()
    if count == 0:
        return 0.0
    var_r = sum_r2 / count - (sum_r / count) ** 2
    var_e = sum_e2 / count - (sum_e / count) ** 2
    rounding = 1e-12 * sum_r2 / count
    return float(1 - var_e / var_r) if var_r > rounding else 0.0
