"""How far the engine that generates and the one that trains are apart, on the same tokens and the same weights.

Engines differ by rounding and by kernels; more than that means that they do not run the same policy (Yao et al. 2025,
"Your efficient RL framework secretly brings you off-policy RL training").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.functional.masked import masked_mean


class EngineGap(NamedTuple):
    """Of the differences of log-probs over the mask, each a scalar, in nats but for the last."""

    mean: Tensor
    """mean |log pi_train - log pi_gen|"""
    largest: Tensor
    """max |log pi_train - log pi_gen|; 0 for an empty mask"""
    token_error: Tensor
    """mean exp(|log pi_train - log pi_gen|): by what factor a token's probability is off; 1 where engines agree"""


@torch.no_grad()
def engine_gap(trained_logprobs: Tensor, sampled_logprobs: Tensor, mask: Tensor) -> EngineGap:
    """All inputs `[B, T]`, of the same distribution; what is outside the mask does not count."""
    gap = torch.where(mask, trained_logprobs - sampled_logprobs, 0).abs()
    return EngineGap(mean=masked_mean(gap, mask), largest=gap.max(), token_error=masked_mean(gap.exp(), mask))
