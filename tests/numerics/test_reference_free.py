"""SimPO's margin loss and ORPO's odds."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.functional.reference_free import log_odds, odds_ratio_loss, simpo_loss


def nll(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


def test_by_hand() -> None:
    gaps = torch.tensor([0.5, -0.5])
    assert simpo_loss(gaps, beta=2.0, gamma=0.3).tolist() == pytest.approx([nll(0.7), nll(-1.3)])
    assert odds_ratio_loss(gaps).tolist() == pytest.approx([nll(0.5), nll(-0.5)])
    three_to_one = log_odds(torch.tensor([0.75, 0.5, 0.2]).log())
    assert three_to_one.tolist() == pytest.approx([math.log(3), 0, math.log(0.25)], abs=1e-6)


def test_odds_by_definition() -> None:
    for x in torch.linspace(-20, -0.001, 50, dtype=torch.float64):
        p = math.exp(x.item())
        assert log_odds(x).item() == pytest.approx(math.log(p / (1 - p)), rel=1e-9, abs=1e-9)


def test_the_margin_is_what_must_be_won_by() -> None:
    gaps = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(simpo_loss(gaps, 2.0, 0.8), simpo_loss(gaps - 0.4, 2.0, 0.0))
    torch.testing.assert_close(simpo_loss(gaps, 1.0, 0.0), odds_ratio_loss(gaps))
    assert simpo_loss(torch.tensor(0.4), 2.0, 0.8).item() == pytest.approx(math.log(2))


def test_odds_mirror_and_rise() -> None:
    p = torch.tensor([0.1, 0.3, 0.45], dtype=torch.float64)
    torch.testing.assert_close(log_odds(p.log()), -log_odds((1 - p).log()))
    x = torch.linspace(-9, -0.01, 100)
    assert (log_odds(x).diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certainty_has_finite_odds_and_no_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -1e-30, -1e-3, -200.0], dtype=dtype, requires_grad=True)
    odds = log_odds(x)
    odds.sum().backward()
    assert odds.isfinite().all()
    assert x.grad is not None
    assert x.grad[:2].tolist() == [0, 0]
    # d/dx log(p/(1-p)) = 1/(1-p)
    assert x.grad[2:].tolist() == pytest.approx([1 / -math.expm1(-1e-3), 1], rel=1e-5)


def test_float32_keeps_its_digits_near_certainty() -> None:
    x = -torch.tensor([1e-6, 1e-5, 1e-4])
    torch.testing.assert_close(log_odds(x), log_odds(x.double()).float(), atol=1e-5, rtol=1e-6)


def test_gradients() -> None:
    x = (-torch.rand(5, dtype=torch.float64) - 0.05).requires_grad_()
    assert torch.autograd.gradcheck(log_odds, x)
    assert torch.autograd.gradcheck(odds_ratio_loss, x)
    assert torch.autograd.gradcheck(lambda g: simpo_loss(g, 2.5, 0.7), x)
    (grad,) = torch.autograd.grad(simpo_loss(x, 2.5, 0.7).sum() + odds_ratio_loss(x).sum(), x)
    assert (grad < 0).all()
