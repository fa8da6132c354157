"""Weights for tokens that another engine sampled than the one that trains: the same model, not quite the same policy.

A rollout engine in lower precision or with other kernels gives other log-probs than the train engine does. Samples are
then a little off-policy, which the importance weight `pi_old / pi_sampled` corrects. It is cut at `cap`, which trades
variance for bias: truncated importance sampling (Ionides 2008; Yao et al. 2025, "Your efficient RL framework secretly
brings you off-policy RL training").
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlhf.functional.policy_loss import policy_log_ratio

CorrectionLevel = Literal["token", "sequence"]


class Correction(NamedTuple):
    """`[B, T]` each, without gradient."""

    weights: Tensor
    """What losses are multiplied by; zero outside the mask."""
    ratio: Tensor
    """pi_old / pi_sampled before the cut; 1 outside the mask."""


@torch.no_grad()
def sampling_correction(
    old_logprobs: Tensor, sampled_logprobs: Tensor, mask: Tensor, level: CorrectionLevel, cap: float
) -> Correction:
    """`min(exp(log pi_old - log pi_sampled), cap)`; all inputs `[B, T]`, of the same, unfiltered distribution.

    `token` weighs each token by its own ratio: little variance, some bias. `sequence` weighs all tokens of a row by the
    product of their ratios, the unbiased form, whose variance grows with the row's length.
    """
    product: Literal["token", "sequence_product"] = "token" if level == "token" else "sequence_product"
    ratio = policy_log_ratio(old_logprobs, sampled_logprobs, mask, product).exp()
    return Correction(weights=torch.where(mask, ratio.clamp(max=cap), 0), ratio=ratio)


def effective_sample_share(weights: Tensor, mask: Tensor) -> Tensor:
    """`(sum w)^2 / (n sum w^2)` over the mask, a scalar in (0, 1]: 1 where all weigh the same; 0 for an empty mask."""
    kept, count = torch.where(mask, weights, 0).double(), mask.sum()
    return kept.sum().square() / (kept.square().sum() * count).clamp(min=1e-300)
