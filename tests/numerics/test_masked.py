"""Masked statistics: by hand, by a loop, by relation, by gradient."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from rlhf.functional.masked import masked_mean, masked_sum, masked_var, whiten

NAN = math.nan


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 7, generator=generator, dtype=torch.float64) * 3 + 2
    mask = torch.rand(5, 7, generator=generator) < 0.6
    mask[3] = False
    return x, mask


def kept(x: Tensor, mask: Tensor) -> list[float]:
    return [x[b, t].item() for b in range(len(x)) for t in range(x.shape[1]) if mask[b, t]]


def test_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, NAN], [4.0, NAN, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_sum(x, mask).item() == 7
    assert masked_sum(x, mask, dim=1).tolist() == [3, 4]
    assert masked_sum(x, mask, dim=0).tolist() == [5, 2, 0]
    assert masked_mean(x, mask).item() == pytest.approx(7 / 3)
    assert masked_mean(x, mask, dim=1).tolist() == [1.5, 4]
    assert masked_var(x, mask).item() == pytest.approx(7 / 3)  # 1, 2, 4: squares 16/9 + 1/9 + 25/9 over 2


def test_by_definition() -> None:
    x, mask = batch()
    assert masked_sum(x, mask).item() == pytest.approx(math.fsum(kept(x, mask)))
    assert masked_mean(x, mask).item() == pytest.approx(statistics.mean(kept(x, mask)))
    assert masked_var(x, mask).item() == pytest.approx(statistics.variance(kept(x, mask)))
    sd = math.sqrt(statistics.variance(kept(x, mask)))
    white = [(value - statistics.mean(kept(x, mask))) / sd for value in kept(x, mask)]
    assert kept(whiten(x, mask), mask) == pytest.approx(white, rel=1e-6)


def test_nothing_is_zero_not_nan() -> None:
    x = torch.full((2, 3), NAN)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert masked_sum(x, nothing).item() == 0
    assert masked_mean(x, nothing).item() == 0
    assert masked_mean(x, nothing, dim=1).tolist() == [0, 0]
    assert masked_var(x, nothing).item() == 0
    assert whiten(x, nothing).tolist() == [[0] * 3] * 2


def test_a_single_entry_has_no_variance_and_whitens_to_zero() -> None:
    x, mask = torch.tensor([[5.0, NAN]]), torch.tensor([[True, False]])
    assert masked_var(x, mask).item() == 0
    assert whiten(x, mask).tolist() == [[0, 0]]


def test_padding_cannot_leak() -> None:
    x, mask = batch()
    dirty = torch.where(mask, x, NAN)
    for function in (masked_sum, masked_mean, masked_var, whiten):
        assert torch.equal(function(dirty, mask), function(x, mask))


def test_whitened_has_mean_zero_and_variance_one_and_is_zero_outside() -> None:
    x, mask = batch()
    white = whiten(x, mask)
    assert masked_mean(white, mask).item() == pytest.approx(0, abs=1e-12)
    assert masked_var(white, mask).item() == pytest.approx(1, abs=1e-6)
    assert (white[~mask] == 0).all()


def test_whitening_without_shift_keeps_the_mean() -> None:
    x, mask = batch()
    kept_mean = whiten(x, mask, shift_mean=False)
    assert masked_mean(kept_mean, mask).item() == pytest.approx(masked_mean(x, mask).item())
    assert masked_var(kept_mean, mask).item() == pytest.approx(1, abs=1e-6)
    assert (kept_mean[~mask] == 0).all()


def test_whitening_does_not_see_shift_scale_or_row_order() -> None:
    x, mask = batch()
    torch.testing.assert_close(whiten(x * 5 - 3, mask), whiten(x, mask))
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(whiten(x[order], mask[order]), whiten(x, mask)[order])


def test_a_constant_batch_whitens_to_zero() -> None:
    x = torch.full((3, 4), 2.5)
    assert whiten(x, torch.ones(3, 4, dtype=torch.bool)).tolist() == [[0] * 4] * 3


def test_gradients() -> None:
    x, mask = batch()
    x.requires_grad_()
    for function in (masked_sum, masked_mean, masked_var, whiten):
        assert torch.autograd.gradcheck(lambda y, function=function: function(y, mask), x)


def test_nan_outside_the_mask_has_a_zero_gradient() -> None:
    x = torch.tensor([[1.0, NAN, 3.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    masked_var(x, mask).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[-2, 0, 2]]  # variance of 1 and 3: half their difference squared
    (gradient,) = torch.autograd.grad(whiten(x, mask).square()[0, 0], x)
    assert gradient.isfinite().all()
    assert gradient[0, 1].item() == 0
