"""Rewards that say nothing, or far too much: advantages are exactly zero, or finite and as large as any others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlhf.functional.group_advantages import grpo_advantages, leave_one_out_baseline, maxrl_advantages, rloo_advantages
from rlhf.functional.lagrangian import whiten_lagrangian
from rlhf.functional.masked import whiten

GROUPS_B = torch.tensor([0] * 3 + [1] * 7 + [2] * 501)
METHODS = {
    "grpo": lambda scores, groups: grpo_advantages(scores, groups, divide_by_std=True),
    "dr_grpo": lambda scores, groups: grpo_advantages(scores, groups, divide_by_std=False),
    "rloo": rloo_advantages,
    "maxrl": maxrl_advantages,
    "whiten": lambda scores, groups: whiten(scores, torch.ones_like(groups, dtype=torch.bool)),
    "lagrangian": lambda scores, groups: whiten_lagrangian(
        scores, torch.zeros_like(scores), torch.ones_like(groups, dtype=torch.bool), 0.5
    ),
}


@pytest.mark.parametrize(
    ("name", "reward"),
    [(name, reward) for name in METHODS for reward in (0.1, 1 / 3, 0.0, 7.3, 16777217.0, 1e30)]
    + [(name, reward) for name in METHODS if name != "maxrl" for reward in (-0.1, -1e30)],  # its scores are at least 0
)
def test_equal_rewards_give_an_advantage_of_exactly_zero(name: str, reward: float) -> None:
    """A digit of rounding would be enough: AdamW divides by the size of what it sees."""
    advantages = METHODS[name](torch.full((len(GROUPS_B),), reward), GROUPS_B)
    assert advantages.dtype == torch.float32
    assert torch.equal(advantages, torch.zeros(len(GROUPS_B)))


@pytest.mark.parametrize("name", ["grpo", "maxrl", "whiten", "lagrangian"])
def test_huge_rewards_are_credited_as_any_others(name: str) -> None:
    small = torch.rand(len(GROUPS_B), generator=torch.Generator().manual_seed(0)) + 0.5
    expected = METHODS[name](small * 1024, GROUPS_B)
    found = METHODS[name](small * 2.0**100, GROUPS_B)
    assert found.isfinite().all()
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_one_huge_reward_among_others_is_finite() -> None:
    scores_B = torch.tensor([1e30, 0.0, 1.0, -3e38])
    for method in METHODS.values():
        assert method(scores_B, torch.zeros(4, dtype=torch.int64)).isfinite().all()


def test_a_sample_alone_in_its_group_is_credited_nothing() -> None:
    scores_B, groups_B = torch.tensor([0.1, 1e30, -2.0]), torch.tensor([5, 6, 7])
    for name in ("grpo", "dr_grpo", "rloo", "maxrl"):
        assert torch.equal(METHODS[name](scores_B, groups_B), torch.zeros(3))
    assert torch.equal(leave_one_out_baseline(scores_B, groups_B), scores_B)


def test_whitening_keeps_the_mean_of_huge_rewards_where_told() -> None:
    scores_B: Tensor = torch.tensor([1e30, 3e30])
    white = whiten(scores_B, torch.ones(2, dtype=torch.bool), shift_mean=False)
    torch.testing.assert_close(white, torch.full((2,), 2e30))
