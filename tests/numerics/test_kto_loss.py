"""KTO's loss and its reference point."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.functional.kto_loss import kto_loss, kto_reference_point

LABELS = torch.tensor([True, False, True, False])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_by_hand() -> None:
    r, z = torch.tensor([2.0, 2.0, -1.0, -1.0]), torch.tensor(0.5)
    expected = [1 - sigmoid(0.6), 1 - sigmoid(-0.6), 1 - sigmoid(-0.6), 1 - sigmoid(0.6)]  # 0.4 * (2 - 0.5)
    assert kto_loss(r, z, LABELS, 0.4).tolist() == pytest.approx(expected)
    weighted = kto_loss(r, z, LABELS, 0.4, desirable_weight=2.0, undesirable_weight=0.5)
    assert weighted.tolist() == pytest.approx([2 * expected[0], expected[1] / 2, 2 * expected[2], expected[3] / 2])


def test_the_reference_point_by_hand() -> None:
    policy, ref, valid = (
        torch.tensor([-1.0, -4.0, 7.0]),
        torch.tensor([-2.0, -6.0, 0.0]),
        torch.tensor([True, True, False]),
    )
    assert kto_reference_point(policy, ref, valid).item() == 1.5
    assert kto_reference_point(ref, policy, valid).item() == 0
    assert kto_reference_point(policy, ref, torch.zeros(3, dtype=torch.bool)).item() == 0


def test_the_reference_point_is_cut_after_the_mean() -> None:
    """So it cannot be had from pieces: cut one by one, these would give 1."""
    policy, ref = torch.tensor([2.0, -4.0]), torch.zeros(2)
    assert kto_reference_point(policy, ref, torch.ones(2, dtype=torch.bool)).item() == 0
    nan = torch.tensor([math.nan, 3.0])
    assert kto_reference_point(nan, ref, torch.tensor([False, True])).item() == 3


def test_by_definition() -> None:
    """Weight minus value, the value a sigmoid of the gain for a good completion and of the loss for a bad one."""
    r, z = 5 * torch.randn(4, dtype=torch.float64), 0.7
    losses = kto_loss(r, torch.tensor(z), LABELS, 0.3, 1.2, 0.8)
    for i, good in enumerate(LABELS.tolist()):
        weight = 1.2 if good else 0.8
        value = weight * sigmoid(0.3 * (r[i].item() - z) if good else 0.3 * (z - r[i].item()))
        assert losses[i].item() == pytest.approx(weight - value)


def test_a_policy_that_is_its_reference_loses_half_of_each_weight() -> None:
    losses = kto_loss(torch.zeros(4), torch.tensor(0.0), LABELS, 0.1, 3.0, 2.0)
    assert losses.tolist() == [1.5, 1.0, 1.5, 1.0]


def test_swapping_label_and_sign_changes_nothing() -> None:
    r, z = torch.randn(4), torch.tensor(0.0)
    torch.testing.assert_close(kto_loss(r, z, LABELS, 0.5), kto_loss(-r, z, ~LABELS, 0.5))


def test_a_sharp_beta_counts_mistakes() -> None:
    r = torch.tensor([2.0, 2.0, -1.0, -1.0])
    assert kto_loss(r, torch.tensor(0.5), LABELS, 1e4).tolist() == [0, 1, 1, 0]


def test_gradients() -> None:
    r = torch.randn(4, dtype=torch.float64, requires_grad=True)
    z = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: kto_loss(r, z.detach(), LABELS, 0.4, 1.3, 0.6), r)
    kto_loss(r, z, LABELS, 0.4).sum().backward()
    assert z.grad is None, "the reference point is a constant"
    assert r.grad is not None
    assert (r.grad[LABELS] < 0).all()
    assert (r.grad[~LABELS] > 0).all()
    moving = torch.zeros(4, requires_grad=True)
    assert not kto_reference_point(moving, torch.zeros(4), torch.ones(4, dtype=torch.bool)).requires_grad
