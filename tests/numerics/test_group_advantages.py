"""Advantages from the other samples of a prompt."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.functional.group_advantages import (
    grpo_advantages,
    leave_one_out_baseline,
    maxrl_advantages,
    rloo_advantages,
    varied_groups,
)

GROUPS = torch.tensor([7, 3, 7, 7, 3, 11, -2, -2, 7])
SCORES = torch.tensor([1.0, 0.5, 3.0, 2.0, 0.25, 9.0, 4.0, 4.0, 0.0], dtype=torch.float64)


def grpo(scores: Tensor, groups: Tensor) -> Tensor:
    return grpo_advantages(scores, groups, divide_by_std=True)


def dr_grpo(scores: Tensor, groups: Tensor) -> Tensor:
    return grpo_advantages(scores, groups, divide_by_std=False)


ALL = (rloo_advantages, grpo, dr_grpo, maxrl_advantages)


def members(i: int) -> list[float]:
    return [SCORES[j].item() for j in range(len(SCORES)) if GROUPS[j] == GROUPS[i]]


def test_by_hand() -> None:
    scores, groups = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 0, 0])
    torch.testing.assert_close(rloo_advantages(scores, groups), torch.tensor([-1.5, 0.0, 1.5]))
    torch.testing.assert_close(dr_grpo(scores, groups), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(grpo(scores, groups), torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=2e-6)
    torch.testing.assert_close(maxrl_advantages(scores, groups), torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=2e-6)


def test_by_definition() -> None:
    for i in range(len(SCORES)):
        group, score = members(i), SCORES[i].item()
        mean = statistics.mean(group)
        others = (sum(group) - score) / (len(group) - 1) if len(group) > 1 else score
        std = statistics.stdev(group) if len(group) > 1 else 0.0
        assert leave_one_out_baseline(SCORES, GROUPS)[i].item() == pytest.approx(others)
        assert rloo_advantages(SCORES, GROUPS)[i].item() == pytest.approx(score - others)
        assert dr_grpo(SCORES, GROUPS)[i].item() == pytest.approx(score - mean)
        assert grpo(SCORES, GROUPS)[i].item() == pytest.approx((score - mean) / (std + 1e-6))
        assert maxrl_advantages(SCORES, GROUPS)[i].item() == pytest.approx((score - mean) / (mean + 1e-6))


@pytest.mark.parametrize("advantages", ALL)
def test_alone_or_all_alike_is_zero(advantages: Callable[[Tensor, Tensor], Tensor]) -> None:
    found = advantages(SCORES, GROUPS)
    assert found[5].item() == 0  # alone in group 11, with a score of 9
    assert found[6].item() == found[7].item() == 0  # both 4


@pytest.mark.parametrize("advantages", ALL)
def test_order_and_names_of_groups_cannot_matter(advantages: Callable[[Tensor, Tensor], Tensor]) -> None:
    order = torch.tensor([8, 1, 5, 0, 3, 2, 7, 4, 6])
    torch.testing.assert_close(advantages(SCORES[order], GROUPS[order] * 5 + 1), advantages(SCORES, GROUPS)[order])


@pytest.mark.parametrize("advantages", ALL)
def test_they_sum_to_zero_in_each_group(advantages: Callable[[Tensor, Tensor], Tensor]) -> None:
    found = advantages(SCORES, GROUPS)
    for group in GROUPS.unique():
        assert found[group == GROUPS].sum().item() == pytest.approx(0, abs=1e-12)


def test_leaving_one_out_is_centring_times_n_over_n_minus_one() -> None:
    scores, groups = SCORES[GROUPS == 7], GROUPS[GROUPS == 7]
    torch.testing.assert_close(rloo_advantages(scores, groups), dr_grpo(scores, groups) * 4 / 3)


def test_rows_that_are_not_valid_count_for_nobody() -> None:
    scores, groups = torch.tensor([1.0, float("nan"), 5.0, 2.0]), torch.tensor([0, 0, 0, 1])
    valid = torch.tensor([True, False, True, True])
    assert leave_one_out_baseline(scores, groups, valid).tolist() == [5, 3, 1, 2]


# --- groups that say nothing -----------------------------------------------------------------------------------------


def test_varied_groups_by_hand() -> None:
    assert varied_groups(SCORES, GROUPS).tolist() == [True, True, True, True, True, False, False, False, True]


def test_varied_groups_by_definition_and_in_any_order() -> None:
    scores = torch.randint(0, 2, (60,)).double()
    groups = torch.randint(-4, 20, (60,))
    found = varied_groups(scores, groups)
    for i in range(60):
        group = [scores[j].item() for j in range(60) if groups[j] == groups[i]]
        assert found[i].item() == (max(group) != min(group))
    order = torch.randperm(60)
    assert torch.equal(varied_groups(scores[order], groups[order] * 3), found[order])
    assert found.any()
    assert not found.all()


def test_a_judges_rounding_is_not_a_difference() -> None:
    groups = torch.zeros(2, dtype=torch.long)
    assert not varied_groups(torch.tensor([0.1 + 0.2, 0.3], dtype=torch.float64), groups).any()
    assert not varied_groups(torch.tensor([-5.0, -5.0 - 1e-6], dtype=torch.float64), groups, tolerance=1.1e-6).any()
    assert varied_groups(torch.tensor([-5.0, -5.0 - 2e-6], dtype=torch.float64), groups).all()
    assert varied_groups(torch.tensor([0.0, 0.5]), groups, tolerance=0.4).all()
    assert not varied_groups(torch.tensor([0.0, 0.5]), groups, tolerance=0.5).any()
