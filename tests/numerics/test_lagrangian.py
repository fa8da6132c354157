"""Reward under a limit on cost: advantages at a price, and the price."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.lagrangian import lagrangian_advantages, moving_average, stepped_within, whiten_lagrangian
from rlhf.functional.masked import whiten

NAN = math.nan


def parts() -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.tensor([[False, True, True, False], [True, True, True, True], [False] * 4])
    return torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64), mask


def test_combined_by_hand() -> None:
    combined = lagrangian_advantages(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0]), 2.0)
    assert combined.tolist() == pytest.approx([1 / 3, -1.0])


def test_whitened_by_hand() -> None:
    mask = torch.tensor([[True, True]])
    white = whiten_lagrangian(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0]]), mask, 2.0)
    # 3 - 2 and 1 - 0, a third of each: both 1/3, so nothing is left about the mean.
    assert white.tolist() == [[0.0, 0.0]]
    white = whiten_lagrangian(torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 1.0]]), mask, 2.0)
    # 1 and -1/3 about 1/3, over sqrt(2 + 4 * 0.5) / 3 = 2/3.
    assert white.flatten().tolist() == pytest.approx([1.0, -1.0])


def test_where_nothing_varies_nothing_is_credited() -> None:
    mask = torch.tensor([[True, True, False]])
    white = whiten_lagrangian(torch.tensor([[3.0, 3.0, NAN]]), torch.tensor([[1.0, 1.0, NAN]]), mask, 2.0)
    assert white.tolist() == [[0.0, 0.0, 0.0]]


def test_whitened_by_definition() -> None:
    reward, cost, mask = parts()
    for price in (0.0, 0.7, 30.0):
        pairs = list(zip(reward[mask].tolist(), cost[mask].tolist(), strict=True))
        combined = [(r - price * c) / (1 + price) for r, c in pairs]
        mean = sum(combined) / len(combined)

        def variance(values: list[float]) -> float:
            centre = sum(values) / len(values)
            return sum((v - centre) ** 2 for v in values) / (len(values) - 1)

        spread = math.sqrt(variance([r for r, _ in pairs]) + price**2 * variance([c for _, c in pairs])) / (1 + price)
        white = whiten_lagrangian(reward, cost, mask, price)
        assert white[mask].tolist() == pytest.approx([(x - mean) / spread for x in combined])
        assert not white[~mask].any()


def test_relations() -> None:
    reward, cost, mask = parts()
    # Free of charge it is whitening; at any price with nothing to pay, too.
    torch.testing.assert_close(whiten_lagrangian(reward, cost, mask, 0.0), whiten(reward, mask))
    torch.testing.assert_close(whiten_lagrangian(reward, torch.zeros_like(cost), mask, 5.0), whiten(reward, mask))
    # At a price beyond all rewards it is cost alone.
    torch.testing.assert_close(whiten_lagrangian(reward, cost, mask, 1e9), -whiten(cost, mask))
    # Neither order nor what lies outside the mask matters.
    order = torch.tensor([2, 0, 1])
    dirty = [torch.where(mask, x, NAN) for x in (reward, cost)]
    torch.testing.assert_close(
        whiten_lagrangian(*(x[order] for x in dirty), mask[order], 0.7),
        whiten_lagrangian(reward, cost, mask, 0.7)[order],
    )


def test_steps_become_small_where_reward_and_price_cancel() -> None:
    reward, _, mask = parts()
    near = whiten_lagrangian(reward, reward, mask, 0.99)
    assert near.abs().max() < 0.02
    assert (
        whiten(lagrangian_advantages(reward, reward, 0.99), mask).abs().max() > 0.5
    )  # what whitening would make of it
    far = whiten_lagrangian(reward, reward, mask, 3.0)
    assert (far[mask] * near[mask] < 0).all()  # on the other side of 1 the policy turns round


def test_gradients_of_the_combination() -> None:
    reward, cost, _ = parts()
    for x in (reward, cost):
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda r, c: lagrangian_advantages(r, c, 2.0), (reward, cost))
    to_reward, to_cost = torch.autograd.grad(lagrangian_advantages(reward, cost, 2.0).sum(), (reward, cost))
    assert to_reward[0, 0].item() == pytest.approx(1 / 3)
    assert to_cost[0, 0].item() == pytest.approx(-2 / 3)


def test_the_multiplier_stays_within_its_bounds() -> None:
    assert stepped_within(1.0, 0.25, 10.0) == 1.25
    assert stepped_within(1.0, -0.25, 10.0) == 0.75
    assert stepped_within(1.0, -3.0, 10.0) == 0.0
    assert stepped_within(9.0, 3.0, 10.0) == 10.0
    assert stepped_within(0.0, 0.5, 10.0) == 0.5  # zero is no trap


def test_the_average_by_hand() -> None:
    assert moving_average(None, 4.0, 0.9) == 4.0
    assert moving_average(4.0, 8.0, 0.75) == 5.0
    assert moving_average(4.0, 8.0, 0.0) == 8.0
