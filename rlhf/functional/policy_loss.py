"""Losses of a policy, per token: PPO's clipped surrogate and the plain policy gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.functional.kl import k3, log_ratio


class PolicyLoss(NamedTuple):
    """`[B, T]` each, zero or False outside the mask; only `losses` carries a gradient."""

    losses: Tensor
    ratio: Tensor
    """pi / pi_old; 1 outside the mask."""
    clipped_low: Tensor
    """bool: pushed down far enough already (A < 0, ratio below 1 - clip_low): no gradient."""
    clipped_high: Tensor
    """bool: pushed up far enough already (A > 0, ratio above 1 + clip_high): no gradient."""
    dual_clipped: Tensor
    """bool: A < 0 and the ratio is beyond `dual_clip`: no gradient."""
    approx_kl: Tensor
    """k3 estimate of KL(pi_old || pi), the drift since the samples were drawn."""


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """`L_t = max(-A w, -A clip(w, 1 - clip_low, 1 + clip_high))`, with `w = pi/pi_old`; all inputs `[B, T]`.

    Schulman et al. 2017 (PPO, arXiv:1707.06347), equation 7, negated; unequal bounds: DAPO (arXiv:2503.14476).
    `dual_clip` c > 1 bounds the loss of a bad token that became likely, `L_t <= -A c` for A < 0 (Ye et al. 2020,
    arXiv:1912.09729, equation 5). Log-ratios are cut to +-20 before the exponential.
    """
    advantages = torch.where(mask, advantages, 0)
    ratio = log_ratio(logprobs, old_logprobs, mask).exp()
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_low, 1 + clip_high))
    negative = advantages < 0
    dual_clipped = torch.zeros_like(mask)
    if dual_clip is not None:
        losses = torch.where(negative, torch.minimum(losses, -advantages * dual_clip), losses)
        dual_clipped = negative & (ratio > dual_clip)
    return PolicyLoss(
        losses=losses,
        ratio=ratio.detach(),
        clipped_low=negative & (ratio < 1 - clip_low),
        clipped_high=(advantages > 0) & (ratio > 1 + clip_high),
        dual_clipped=dual_clipped,
        approx_kl=k3(old_logprobs, logprobs, mask).detach(),
    )


def policy_gradient_loss(logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """`L_t = -A_t log pi(a_t|s_t)`, `[B, T]`: REINFORCE (Williams 1992). `advantages` are taken as constants."""
    return -torch.where(mask, advantages.detach(), 0) * torch.where(mask, logprobs, 0)
