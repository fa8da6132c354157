"""KL divergence from samples, and the controller that holds it near a target.

With `x = log pi(a|s) - log pi_ref(a|s)` on tokens sampled from pi, KL(pi || pi_ref) = E[x] and each of

    k1 = x            unbiased, high variance, may be negative
    k2 = x^2 / 2      biased, low variance; its gradient is that of the KL
    k3 = e^-x - 1 + x unbiased, never negative

estimates it (Schulman 2020, "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html). The value is not the
gradient. In a loss, over tokens drawn from pi,

    k1   has the gradient 0 in expectation: it belongs into the reward, where it gives the gradient of KL(pi || pi_ref)
    k2   has the gradient of KL(pi || pi_ref)
    k3   has the gradient of KL(pi_ref || pi), the other direction: -E_ref[grad log pi]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to +-20 before anything is made of them: e^20 is finite, and its square too."""

MAX_K3 = 10.0
"""k3 grows as e^-x: one token far out must not own the batch."""

MAX_RELATIVE_ERROR = 0.2
"""The controller's step is cut here, so that one wild batch moves the coefficient little (Ziegler et al. 2019)."""


def log_ratio(logprobs: Tensor, other_logprobs: Tensor, mask: Tensor) -> Tensor:
    """`logprobs - other_logprobs` on the mask, cut to +-20, zero outside; outside entries get no gradient."""
    return torch.where(mask, logprobs - other_logprobs, 0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def k1(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """`x`, per token `[B, T]`."""
    return log_ratio(logprobs, ref_logprobs, mask)


def k2(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """`x^2 / 2`, per token `[B, T]`."""
    return 0.5 * log_ratio(logprobs, ref_logprobs, mask).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """`e^-x - 1 + x`, per token `[B, T]`, cut at 10."""
    x = log_ratio(logprobs, ref_logprobs, mask)
    # expm1: near x = 0, where training lives, e^-x - 1 loses every digit in float32.
    return (torch.expm1(-x) + x).clamp(max=MAX_K3)


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """A KL coefficient and the target it steers to (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    `horizon` counts samples: the larger, the slower. `coef` is state and belongs in every checkpoint.
    """

    coef: float
    target: float
    horizon: float


def update_kl(controller: AdaptiveKL, kl: float, num_samples: int) -> AdaptiveKL:
    """`coef <- coef * (1 + clip(kl/target - 1, -0.2, 0.2) * num_samples/horizon)`.

    `kl` is in the target's unit (nats per sequence, or per token). Raises ValueError when it is not finite.
    """
    if not math.isfinite(kl):
        raise ValueError(f"The measured KL must be finite, but is {kl}: look for NaN in the policy's log-probs.")
    error = min(max(kl / controller.target - 1, -MAX_RELATIVE_ERROR), MAX_RELATIVE_ERROR)
    return replace(controller, coef=controller.coef * (1 + error * num_samples / controller.horizon))
