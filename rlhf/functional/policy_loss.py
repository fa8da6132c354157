"""Losses of a policy, per token: the clipped surrogate of PPO, GRPO and GSPO, CISPO, and the plain policy gradient."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlhf.functional.kl import MAX_LOG_RATIO, k3, log_ratio

RatioLevel = Literal["token", "sequence_mean", "sequence_product"]


class PolicyLoss(NamedTuple):
    """`[B, T]` each, zero or False outside the mask; only `losses` carries a gradient."""

    losses: Tensor
    ratio: Tensor
    """pi / pi_old; 1 outside the mask."""
    clipped_low: Tensor
    """bool: pushed down far enough already (A < 0, ratio below 1 - clip_low): no gradient. CISPO: weight raised."""
    clipped_high: Tensor
    """bool: pushed up far enough already (A > 0, ratio above 1 + clip_high): no gradient. CISPO: weight cut."""
    dual_clipped: Tensor
    """bool: A < 0 and the ratio is beyond `dual_clip`: no gradient."""
    approx_kl: Tensor
    """k3 estimate of KL(pi_old || pi), the drift since the samples were drawn."""


def policy_log_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, level: RatioLevel) -> Tensor:
    """Logarithm of each token's ratio, `[B, T]`, cut to +-20, zero outside the mask.

    `token`: its own `x_t = log pi - log pi_old`. `sequence_mean`: the mean of x over the row, for all its tokens (GSPO,
    Zheng et al. 2025, arXiv:2507.18071, equation 7). `sequence_product`: the sum of x over the row, the ratio of whole
    completions, which takes a completion for one action (RLOO, Ahmadian et al. 2024, arXiv:2402.14740).
    """
    x = log_ratio(logprobs, old_logprobs, mask)
    if level == "token":
        return x
    of_row_B1 = x.sum(1, keepdim=True)
    if level == "sequence_mean":
        of_row_B1 = of_row_B1 / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.where(mask, of_row_B1, 0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    level: RatioLevel = "token",
) -> PolicyLoss:
    """`L_t = max(-A w, -A clip(w, 1 - clip_low, 1 + clip_high))`, with `w = pi/pi_old`; all inputs `[B, T]`.

    Schulman et al. 2017 (PPO, arXiv:1707.06347), equation 7, negated; unequal bounds: DAPO (arXiv:2503.14476).
    `dual_clip` c > 1 bounds the loss of a bad token that became likely, `L_t <= -A c` for A < 0 (Ye et al. 2020,
    arXiv:1912.09729, equation 5). Log-ratios are cut to +-20 before the exponential. With a ratio of whole rows every
    token of a row has the row's loss, so that `sequence_mean` weights give the mean over rows.
    """
    advantages = torch.where(mask, advantages, 0)
    ratio = policy_log_ratio(logprobs, old_logprobs, mask, level).exp()
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


def cispo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    level: RatioLevel = "token",
) -> PolicyLoss:
    """`L_t = -sg(clip(w, 1 - clip_low, 1 + clip_high)) A log pi`: the weight is cut, and no token loses its gradient.

    MiniMax-M1 (arXiv:2506.13585), equations 4 and 5. `clip_low=1` leaves small weights alone, as the paper does.
    """
    ratio = policy_log_ratio(logprobs, old_logprobs, mask, level).exp().detach()
    return PolicyLoss(
        losses=policy_gradient_loss(logprobs, advantages * ratio.clamp(1 - clip_low, 1 + clip_high), mask),
        ratio=ratio,
        clipped_low=mask & (ratio < 1 - clip_low),
        clipped_high=mask & (ratio > 1 + clip_high),
        dual_clipped=torch.zeros_like(mask),
        approx_kl=k3(old_logprobs, logprobs, mask).detach(),
    )


@torch.no_grad()
def has_drifted(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, max_drift: float) -> Tensor:
    """Bool `[B, T]`: tokens with A < 0 of rows whose mean `log pi_old - log pi` exceeds `max_drift`, in nats a token.

    Bad completions that the policy has left behind: pushing them farther down teaches little, and unsettles it. Left
    out by DeepSeek-V3.2 (arXiv:2512.02556), section 3.1.
    """
    drift_B1 = log_ratio(old_logprobs, logprobs, mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return mask & (advantages < 0) & (drift_B1 > max_drift)


def policy_gradient_loss(logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """`L_t = -A_t log pi(a_t|s_t)`, `[B, T]`: REINFORCE (Williams 1992). `advantages` are taken as constants."""
    return -torch.where(mask, advantages.detach(), 0) * torch.where(mask, logprobs, 0)
