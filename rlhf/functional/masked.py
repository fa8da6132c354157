"""Statistics over the entries where a mask is True.

Masking is `torch.where`, never a product: `nan * 0` is `nan`, in the backward pass too, so entries outside the mask
are dropped before anything nonlinear is done to them. A statistic of nothing is 0, so that an empty row
cannot turn a batch into NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

WHITEN_EPS = 1e-8
"""Added to the variance, so that a constant batch whitens to zero."""


def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """`sum of x[mask]` over `dim`, or over everything. `mask` is bool and of x's shape."""
    kept = torch.where(mask, x, 0)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """`mean of x[mask]` over `dim`, or over everything; 0 where nothing is masked in."""
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance of `x[mask]` (Bessel: divided by n - 1), a scalar; 0 for fewer than two entries."""
    deviation = torch.where(mask, x - masked_mean(x, mask), 0)
    return deviation.square().sum() / (mask.sum() - 1).clamp(min=1)


def whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """`(x - mean) / sqrt(var + 1e-8)` over the masked entries, zero outside them.

    `x` must be the whole global batch: whitening a micro-batch or one rank's rows by itself is another estimator.
    `shift_mean=False` adds the mean back, so that rewards keep their sign (Ziegler et al. 2019, arXiv:1909.08593).

    Computed in float64: in float32 the mean of equal numbers may miss them by a digit, of which an optimizer that
    divides by the size of gradients makes a full step; and the square of a number beyond 1e19 is infinite.
    """
    exact = torch.where(mask, x, 0).double()
    mean = masked_mean(exact, mask)
    white = (exact - mean) * torch.rsqrt(masked_var(exact, mask) + WHITEN_EPS)
    if not shift_mean:
        white = white + mean
    return torch.where(mask, white, 0).to(x.dtype)
