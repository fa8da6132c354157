"""Weights for tokens that another engine sampled than the one that trains: the same model, not quite the same policy.

A rollout engine in lower precision or with other kernels gives other log-probs than the train engine does. Samples are
then a little off-policy, which the importance weight `pi_old / pi_sampled` corrects. A bound on it trades variance for
bias: weights above it are cut (truncated importance sampling: Ionides 2008; Yao et al. 2025, "Your efficient RL
framework secretly brings you off-policy RL training"), or what lies too far off on either side is left out (masked
importance sampling: Zhao et al. 2025, "Small leak can sink a great ship: boost RL training on MoE with IcePop").
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlhf.functional.policy_loss import policy_log_ratio

CorrectionLevel = Literal["token", "sequence"]
Beyond = Literal["cut", "drop"]


class Correction(NamedTuple):
    """`[B, T]` each, without gradient."""

    weights: Tensor
    """What losses are multiplied by; zero outside the mask."""
    ratio: Tensor
    """pi_old / pi_sampled without a bound; 1 outside the mask."""


@torch.no_grad()
def sampling_correction(
    old_logprobs: Tensor,
    sampled_logprobs: Tensor,
    mask: Tensor,
    level: CorrectionLevel,
    cap: float,
    beyond: Beyond = "cut",
) -> Correction:
    """`w = exp(log pi_old - log pi_sampled)`, bounded; all inputs `[B, T]`, of the same, unfiltered distribution.

    `cut`: `min(w, cap)`. `drop`: w where `1/cap <= w <= cap`, else 0.

    `token` weighs each token by its own ratio: little variance, some bias. `sequence` weighs all tokens of a row by the
    product of their ratios, the unbiased form, whose variance grows with the row's length.
    """
    product: Literal["token", "sequence_product"] = "token" if level == "token" else "sequence_product"
    ratio = policy_log_ratio(old_logprobs, sampled_logprobs, mask, product).exp()
    if beyond == "drop":
        weights = torch.where((ratio >= 1 / cap) & (ratio <= cap), ratio, 0)
    else:
        weights = ratio.clamp(max=cap)
    return Correction(weights=torch.where(mask, weights, 0), ratio=ratio)


def chi_square(ratio: Tensor, mask: Tensor) -> Tensor:
    """`mean(w^2) - 1` over the mask: chi^2(pi_old || pi_sampled), from samples of pi_sampled; a scalar, 0 if equal.

    By how much the variance of a weighted mean exceeds that of an unweighted one. 0 for an empty mask.
    """
    kept, count = torch.where(mask, ratio, 1).double(), mask.sum()
    return torch.where(mask, kept.square() - 1, 0).sum() / count.clamp(min=1)


def effective_sample_share(weights: Tensor, mask: Tensor) -> Tensor:
    """`(sum w)^2 / (n sum w^2)` over the mask, a scalar in (0, 1]: 1 where all weigh the same; 0 for an empty mask."""
    kept, count = torch.where(mask, weights, 0).double(), mask.sum()
    return kept.sum().square() / (kept.square().sum() * count).clamp(min=1e-300)
