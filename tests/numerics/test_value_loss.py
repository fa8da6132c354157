"""Clipped value regression and explained variance."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from rlhf.functional.value_loss import clipped_value_loss, explained_variance, value_moments

NAN = math.nan


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values, old, returns = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 8, generator=generator) < 0.7
    mask[1] = False
    return values, old, returns, mask


@pytest.mark.parametrize(
    ("value", "old", "target", "loss", "clipped", "gradient"),
    [
        (1.0, 0.9, 2.0, 0.5, False, -1.0),  # moved less than the clip
        (1.5, 0.5, 2.0, 0.845, True, 0.0),  # came closer by more than the clip: counted as 0.7
        (1.5, 2.5, 2.0, 0.125, False, -0.5),  # clipped to 2.3, error 0.3, below the true 0.5
        (3.0, 2.5, 2.0, 0.5, False, 1.0),  # went away: the true error counts
    ],
)
def test_by_hand(value: float, old: float, target: float, loss: float, clipped: bool, gradient: float) -> None:
    x = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    on = torch.ones(1, 1, dtype=torch.bool)
    out = clipped_value_loss(x, torch.tensor([[old]]).double(), torch.tensor([[target]]).double(), on, 0.2)
    out.losses.sum().backward()
    assert x.grad is not None
    assert out.losses.item() == pytest.approx(loss)
    assert out.clipped.item() is clipped
    assert x.grad.item() == pytest.approx(gradient)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_by_definition(clip: float | None) -> None:
    values, old, returns, mask = batch()
    out = clipped_value_loss(values, old, returns, mask, clip)
    for b in range(6):
        for t in range(8):
            v, o, r = values[b, t].item(), old[b, t].item(), returns[b, t].item()
            near = v if clip is None else min(max(v, o - clip), o + clip)
            loss = 0.5 * max((v - r) ** 2, (near - r) ** 2)
            assert out.losses[b, t].item() == pytest.approx(loss if mask[b, t] else 0)
            assert out.clipped[b, t].item() == (bool(mask[b, t]) and (near - r) ** 2 > (v - r) ** 2)
    assert out.clipped.any() == (clip is not None)


def test_values_that_did_not_move_far_are_not_flagged() -> None:
    old, _, returns, mask = (x.float() if x.is_floating_point() else x for x in batch())
    out = clipped_value_loss(old + 0.1 * returns.sign(), old, returns, mask, 0.2)
    assert not out.clipped.any()


def test_padding_cannot_leak_into_value_or_gradient() -> None:
    *clean, mask = batch()
    results = []
    for inputs in (clean, [torch.where(mask, x, NAN) for x in clean]):
        values = inputs[0].clone().requires_grad_()
        out = clipped_value_loss(values, inputs[1], inputs[2], mask, 0.3)
        out.losses.sum().backward()
        assert values.grad is not None
        results.append((*out, values.grad, value_moments(inputs[0], inputs[2], mask)))
    for ours, dirty in zip(*results, strict=True):
        assert torch.equal(ours, dirty)


def test_gradients() -> None:
    values, old, returns, mask = batch()
    values.requires_grad_()
    for clip in (None, 0.3):
        assert torch.autograd.gradcheck(lambda v, c=clip: clipped_value_loss(v, old, returns, mask, c).losses, values)


def test_explained_variance_by_definition() -> None:
    values, _, returns, mask = batch()
    errors = (returns - values)[mask].tolist()
    expected = 1 - statistics.pvariance(errors) / statistics.pvariance(returns[mask].tolist())
    assert explained_variance(value_moments(values, returns, mask)) == pytest.approx(expected)


def test_explained_variance_does_not_depend_on_how_the_batch_is_cut() -> None:
    values, _, returns, mask = batch()
    whole = explained_variance(value_moments(values, returns, mask))
    rows = [value_moments(values[b : b + 1], returns[b : b + 1], mask[b : b + 1]) for b in range(6)]
    assert explained_variance(torch.stack(rows).sum(0)) == pytest.approx(whole)


def test_explained_variance_of_perfect_constant_and_wrong_predictions() -> None:
    _, _, returns, mask = batch()
    assert explained_variance(value_moments(returns, returns, mask)) == 1
    assert explained_variance(value_moments(returns + 3, returns, mask)) == pytest.approx(1)  # an offset is no variance
    assert explained_variance(value_moments(torch.full_like(returns, 5.0), returns, mask)) == pytest.approx(0)
    assert explained_variance(value_moments(-returns, returns, mask)) == pytest.approx(-3)


def test_explained_variance_of_nothing_to_explain_is_zero() -> None:
    values, _, returns, mask = batch()
    assert explained_variance(value_moments(values, torch.full_like(returns, 0.1), mask)) == 0
    assert explained_variance(value_moments(values, returns, torch.zeros_like(mask))) == 0


def test_returns_that_vary_little_are_explained_however_many_they_are() -> None:
    returns = 1 + 0.003 * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(100, 50)
    mask = torch.ones_like(returns, dtype=torch.bool)
    assert explained_variance(value_moments(returns, returns, mask)) == 1
    assert explained_variance(value_moments(torch.ones_like(returns), returns, mask)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1000.1, 12345.678, -7e5 / 3])
@pytest.mark.parametrize("count", [1, 3, 7, 1000])
def test_the_rounding_of_a_constant_is_not_taken_for_variance(constant: float, count: int) -> None:
    returns = torch.full((1, count), constant, dtype=torch.float64)
    mask = torch.ones_like(returns, dtype=torch.bool)
    assert explained_variance(value_moments(torch.randn_like(returns), returns, mask)) == 0


def test_explained_variance_survives_a_large_mean_in_float32() -> None:
    values, _, returns, mask = (x.float() if x.is_floating_point() else x for x in batch())
    far = explained_variance(value_moments(values + 1000, returns + 1000, mask))
    assert far == pytest.approx(explained_variance(value_moments(values, returns, mask)), abs=1e-3)
