"""DPO, cDPO, robust DPO, hinge and IPO."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.dpo_loss import dpo_hinge_loss, dpo_logits, dpo_loss, ipo_loss, robust_dpo_loss

H = torch.tensor([-30.0, -1.0, 0.0, 0.4, 2.0, 50.0], dtype=torch.float64)


def nll(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


def slope(loss: object, at: float) -> float:
    """Derivative of a loss of h."""
    h = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    loss(h).backward()  # type: ignore[operator]
    assert h.grad is not None
    return h.grad.item()


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_dpo_by_hand() -> None:
    h = dpo_logits(*(torch.tensor([x]) for x in (-1.0, -4.0, -2.0, -3.5)))
    assert h.item() == 1.5  # (-1 + 4) - (-2 + 3.5)
    assert dpo_loss(h, 0.4).item() == pytest.approx(nll(0.6))
    assert dpo_loss(h, 0.4, label_smoothing=0.25).item() == pytest.approx(0.75 * nll(0.6) + 0.25 * nll(-0.6))
    assert robust_dpo_loss(h, 0.4, 0.25).item() == pytest.approx((0.75 * nll(0.6) - 0.25 * nll(-0.6)) / 0.5)
    assert dpo_hinge_loss(h, 0.4).item() == pytest.approx(0.4)
    assert dpo_hinge_loss(h, 2.0).item() == 0
    assert dpo_hinge_loss(-h, 2.0).item() == pytest.approx(4)
    assert ipo_loss(h, 0.25).item() == pytest.approx(0.25)  # (1.5 - 2)^2
    assert ipo_loss(-h, 0.25).item() == pytest.approx(12.25)


def test_dpo_starts_at_ln_two_and_pushes_the_sides_apart() -> None:
    chosen, rejected = torch.tensor([-5.0], requires_grad=True), torch.tensor([-7.0], requires_grad=True)
    loss = dpo_loss(dpo_logits(chosen, rejected, chosen.detach(), rejected.detach()), 0.1)
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((-0.05, 0.05))


# --- by definition ---------------------------------------------------------------------------------------------------


def test_logistic_losses_by_definition() -> None:
    for beta, noise in ((0.1, 0.0), (0.5, 0.1), (2.0, 0.4)):
        smooth, robust = dpo_loss(H, beta, noise), robust_dpo_loss(H, beta, noise)
        for i, h in enumerate(H.tolist()):
            right, wrong = nll(beta * h), nll(-beta * h)
            assert smooth[i].item() == pytest.approx((1 - noise) * right + noise * wrong, abs=1e-12)
            assert robust[i].item() == pytest.approx(((1 - noise) * right - noise * wrong) / (1 - 2 * noise), abs=1e-12)


# --- by relation -----------------------------------------------------------------------------------------------------


def test_without_noise_the_three_are_one() -> None:
    torch.testing.assert_close(dpo_loss(H, 0.3, 0.0), dpo_loss(H, 0.3))
    torch.testing.assert_close(robust_dpo_loss(H, 0.3, 0.0), dpo_loss(H, 0.3))


def test_robust_dpo_on_flipped_labels_is_dpo_on_clean_ones() -> None:
    for noise in (0.1, 0.3, 0.45):
        of_noisy_labels = (1 - noise) * robust_dpo_loss(H, 0.3, noise) + noise * robust_dpo_loss(-H, 0.3, noise)
        torch.testing.assert_close(of_noisy_labels, dpo_loss(H, 0.3))
        # cDPO is the other way about: a clean label is treated as the noisy one it may be.
        of_clean_labels = (1 - noise) * dpo_loss(H, 0.3) + noise * dpo_loss(-H, 0.3)
        torch.testing.assert_close(of_clean_labels, dpo_loss(H, 0.3, noise))


def test_a_huge_gap_stays_finite() -> None:
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    (dpo_loss(far, 1.0, 0.1) + robust_dpo_loss(far, 1.0, 0.1)).sum().backward()
    assert dpo_loss(far, 1.0).tolist() == [1e4, 0]
    assert far.grad is not None
    assert far.grad.isfinite().all()


# --- by gradient -----------------------------------------------------------------------------------------------------


def test_gradients() -> None:
    sides = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck

    def h(s: Tensor) -> Tensor:
        return dpo_logits(s[:, 0], s[:, 1], s[:, 2], s[:, 3])

    assert check(lambda s: dpo_loss(h(s), 0.3), sides)
    assert check(lambda s: dpo_loss(h(s), 0.3, 0.2), sides)
    assert check(lambda s: robust_dpo_loss(h(s), 0.3, 0.2), sides)
    assert check(lambda s: dpo_hinge_loss(h(s), 0.3), sides)
    assert check(lambda s: ipo_loss(h(s), 0.3), sides)


def test_where_each_loss_is_content() -> None:
    """DPO never is; cDPO where sigmoid(beta h) = 1 - e, IPO at h = 1 / (2 beta), the hinge from beta h = 1 on."""
    assert slope(lambda h: dpo_loss(h, 0.5), 10.0) < 0
    at = math.log(0.9 / 0.1) / 0.5
    assert slope(lambda h: dpo_loss(h, 0.5, 0.1), at) == pytest.approx(0, abs=1e-12)
    assert slope(lambda h: dpo_loss(h, 0.5, 0.1), at + 1) > 0 > slope(lambda h: dpo_loss(h, 0.5, 0.1), at - 1)
    assert slope(lambda h: ipo_loss(h, 0.1), 5.0) == pytest.approx(0, abs=1e-12)
    assert slope(lambda h: ipo_loss(h, 0.1), 6.0) > 0 > slope(lambda h: ipo_loss(h, 0.1), 4.0)
    assert slope(lambda h: dpo_hinge_loss(h, 0.5), 2.1) == 0
    assert slope(lambda h: dpo_hinge_loss(h, 0.5), 1.9) == -0.5


def test_robust_dpo_pulls_harder_by_a_constant() -> None:
    for h in (-4.0, 0.0, 12.0):
        extra = 0.5 * 0.2 / (1 - 2 * 0.2)
        assert slope(lambda x: robust_dpo_loss(x, 0.5, 0.2), h) == pytest.approx(
            slope(lambda x: dpo_loss(x, 0.5), h) - extra
        )
