"""Preference losses without a reference model, on log-probs averaged over a completion's tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def simpo_loss(gaps_B: Tensor, beta: float, gamma: float) -> Tensor:
    """`-log sigmoid(beta g - gamma)` (Meng et al. 2024, arXiv:2405.14734, equation 6); any shape.

    `g` is the average log-prob of the better completion minus that of the worse, `gamma` the margin by which
    `beta g` should exceed zero.
    """
    return -logsigmoid(beta * gaps_B - gamma)


def log_odds(mean_logprobs_B: Tensor) -> Tensor:
    """`log(p / (1 - p))` of `p = exp(mean log-prob)`: the odds of ORPO (Hong et al. 2024, arXiv:2403.07691, eq. 4).

    Any shape. p is kept below 1 by a rounding error: the odds of certainty are infinite, and so would the gradient be.
    """
    below_one = mean_logprobs_B.clamp(max=-torch.finfo(mean_logprobs_B.dtype).eps)
    # expm1: of exp(x) - 1 nothing is left in float32 once x is near 0, where a policy that is sure of itself is.
    return below_one - torch.log(-torch.expm1(below_one))


def odds_ratio_loss(gaps_B: Tensor) -> Tensor:
    """`-log sigmoid(log-odds of the better - log-odds of the worse)` (ORPO, equation 7); any shape."""
    return -logsigmoid(gaps_B)
