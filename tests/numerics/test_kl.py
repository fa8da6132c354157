"""KL estimators and the adaptive coefficient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.kl import AdaptiveKL, k1, k2, k3, update_kl

ESTIMATORS = (k1, k2, k3)
NAN = math.nan


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def test_by_hand() -> None:
    logprobs, ref = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    assert k1(logprobs, ref, ones(1, 1)).item() == pytest.approx(math.log(2))
    assert k2(logprobs, ref, ones(1, 1)).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(logprobs, ref, ones(1, 1)).item() == pytest.approx(0.5 - 1 + math.log(2))


def test_by_definition() -> None:
    logprobs, ref = torch.rand(3, 4).double(), torch.rand(3, 4).double()  # far from where k3 is cut
    formulas = {k1: lambda x: x, k2: lambda x: x * x / 2, k3: lambda x: math.exp(-x) - 1 + x}
    for estimator, formula in formulas.items():
        found = estimator(logprobs, ref, ones(3, 4))
        for b in range(3):
            for t in range(4):
                assert found[b, t].item() == pytest.approx(formula((logprobs[b, t] - ref[b, t]).item()))


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    exact = (p * (p / q).log()).sum().item()
    for estimator in (k1, k3):
        expectation = (p * estimator(p.log()[None], q.log()[None], ones(1, 3))[0]).sum().item()
        assert expectation == pytest.approx(exact)
    assert (k3(torch.randn(50, 50), torch.randn(50, 50), ones(50, 50)) >= 0).all()


def test_k3_keeps_its_digits_near_zero() -> None:
    x = torch.tensor([[1e-4]])
    assert k3(x, torch.zeros(1, 1), ones(1, 1)).item() == pytest.approx(5e-9, rel=1e-3)


def test_wild_tokens_are_cut() -> None:
    far, zero, mask = torch.tensor([[100.0, -100.0]]), torch.zeros(1, 2), ones(1, 2)
    assert k1(far, zero, mask).tolist() == [[20, -20]]
    assert k2(far, zero, mask).tolist() == [[200, 200]]
    assert k3(far, zero, mask).tolist() == [[10, 10]]  # e^-20 - 1 + 20 = 19, e^20: both beyond 10
    assert k3(torch.tensor([[9.0]]), torch.zeros(1, 1), ones(1, 1)).item() == pytest.approx(8, abs=1e-3)


def test_padding_cannot_leak_into_value_or_gradient() -> None:
    mask = torch.tensor([[True, False]])
    for estimator in ESTIMATORS:
        logprobs = torch.tensor([[-1.0, NAN]], requires_grad=True)
        value = estimator(logprobs, torch.tensor([[-2.0, -math.inf]]), mask)
        assert value[0, 1].item() == 0
        value.sum().backward()
        assert logprobs.grad is not None
        assert logprobs.grad.isfinite().all()
        assert logprobs.grad[0, 1].item() == 0


def test_gradients() -> None:
    logprobs = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    for estimator in ESTIMATORS:
        assert torch.autograd.gradcheck(lambda a, b, e=estimator: e(a, b, ones(2, 3)), (logprobs, ref))


def test_the_gradient_of_k2_is_that_of_the_kl() -> None:
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.2, 0.5, 0.3]).double()
    p = logits.softmax(0)
    (exact,) = torch.autograd.grad((p * (p / q).log()).sum(), logits)
    logprobs = logits.log_softmax(0)
    # Tokens are drawn from p, so the expectation's weights are constants.
    expected_k2 = (logprobs.exp().detach() * k2(logprobs[None], q.log()[None], ones(1, 3))[0]).sum()
    (estimated,) = torch.autograd.grad(expected_k2, logits)
    torch.testing.assert_close(estimated, exact)


def expected_gradient(estimator: object, logits: Tensor, q: Tensor) -> Tensor:
    """Of the estimator as a loss, over tokens drawn from the policy: the weights of the expectation are constants."""
    logprobs = logits.log_softmax(0)
    loss = (logprobs.exp().detach() * estimator(logprobs[None], q.log()[None], ones(1, 3))[0]).sum()  # type: ignore[operator]
    return torch.autograd.grad(loss, logits)[0]


def test_in_a_loss_k1_has_no_gradient_and_k3_that_of_the_other_direction() -> None:
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.2, 0.5, 0.3]).double()
    torch.testing.assert_close(expected_gradient(k1, logits, q), torch.zeros(3).double())
    (reverse,) = torch.autograd.grad((q * (q.log() - logits.log_softmax(0))).sum(), logits)
    torch.testing.assert_close(expected_gradient(k3, logits, q), reverse)


def test_k1_in_the_reward_has_the_gradient_of_the_kl() -> None:
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.2, 0.5, 0.3]).double()
    logprobs = logits.log_softmax(0)
    penalty = k1(logprobs[None], q.log()[None], ones(1, 3))[0].detach()
    (estimated,) = torch.autograd.grad((logprobs.exp().detach() * penalty * logprobs).sum(), logits)
    (exact,) = torch.autograd.grad((logits.softmax(0) * (logits.log_softmax(0) - q.log())).sum(), logits)
    torch.testing.assert_close(estimated, exact)


def test_the_controller_raises_and_lowers_the_coefficient() -> None:
    start = AdaptiveKL(coef=0.5, target=6.0, horizon=1000.0)
    assert update_kl(start, 6.6, 100).coef == pytest.approx(0.5 * (1 + 0.1 * 0.1))
    assert update_kl(start, 5.4, 100).coef == pytest.approx(0.5 * (1 - 0.1 * 0.1))
    assert update_kl(start, 6.0, 100) == start


def test_one_wild_batch_moves_the_coefficient_little() -> None:
    start = AdaptiveKL(coef=0.5, target=6.0, horizon=1000.0)
    assert update_kl(start, 1e9, 100).coef == pytest.approx(0.5 * 1.02)
    assert update_kl(start, 0.0, 100).coef == pytest.approx(0.5 * 0.98)
    assert start.coef == 0.5


@pytest.mark.parametrize("kl", [NAN, math.inf])
def test_a_kl_that_is_not_finite_is_an_error(kl: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        update_kl(AdaptiveKL(coef=0.5, target=6.0, horizon=1000.0), kl, 100)
