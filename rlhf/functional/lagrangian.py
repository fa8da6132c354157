"""Maximise reward while cost stays within a limit: the multiplier that prices cost, and advantages at that price.

`max over policies, min over lambda >= 0 of J_R - lambda (J_C - limit)`. Safe RLHF (Dai et al. 2023, arXiv:2310.12773).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf.functional.masked import WHITEN_EPS, masked_mean, masked_var


def lagrangian_advantages(reward_advantages: Tensor, cost_advantages: Tensor, multiplier: float) -> Tensor:
    """`(A_R - lambda A_C) / (1 + lambda)`, `[B, T]`: divided so that a high price does not make for long steps."""
    return (reward_advantages - multiplier * cost_advantages) / (1 + multiplier)


def whiten_lagrangian(reward_advantages: Tensor, cost_advantages: Tensor, mask: Tensor, multiplier: float) -> Tensor:
    """`lagrangian_advantages` centred, and divided by the deviation they would have if the two parts were unrelated.

    `sqrt(var A_R + lambda^2 var A_C) / (1 + lambda)`; zero outside the mask; over the whole global batch. Divided by
    their own deviation they would never become small, however well reward and price cancel: at the very point the
    multiplier steers to, what is left would be blown up to full steps.
    """
    rewards, costs = reward_advantages.double(), cost_advantages.double()  # as `rlhf.functional.masked.whiten`
    rewards, costs = rewards - masked_mean(rewards, mask), costs - masked_mean(costs, mask)
    variance = masked_var(rewards, mask) + multiplier**2 * masked_var(costs, mask)
    scale = (1 + multiplier) * torch.rsqrt(variance + WHITEN_EPS)
    white = lagrangian_advantages(rewards, costs, multiplier) * scale
    return torch.where(mask, white, 0).to(reward_advantages.dtype)


def moving_average(average: float | None, value: float, decay: float) -> float:
    """`decay * average + (1 - decay) * value`; the first value as it is."""
    return value if average is None else decay * average + (1 - decay) * value


def stepped_within(multiplier: float, step: float, maximum: float) -> float:
    """`clip(lambda + step, 0, maximum)`; with `step = lr (cost - limit)` the projected ascent of the dual.

    Safe RLHF steps in log lambda, with a gradient that is itself proportional to lambda: once low, it hardly rises
    again. This is the same ascent in lambda itself, which leaves 0 as soon as the limit is passed.
    """
    return min(max(multiplier + step, 0.0), maximum)
