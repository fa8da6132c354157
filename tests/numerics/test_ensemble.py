"""Scores of several reward models as one."""

from __future__ import annotations

import statistics
from typing import get_args

import pytest
import torch

from rlhf.functional.ensemble import Reduction, reduce_members

ALL = get_args(Reduction)


def test_by_hand() -> None:
    scores = torch.tensor([[1.0, 4.0], [3.0, 4.0], [8.0, 4.0]])
    assert reduce_members(scores, "mean", 9.0).tolist() == [4.0, 4.0]
    assert reduce_members(scores, "min", 9.0).tolist() == [1.0, 4.0]
    # Deviations -3, -1, 4: a variance of 26/3.
    assert reduce_members(scores, "mean_minus_variance", 0.3).tolist() == pytest.approx([4 - 2.6, 4])
    assert reduce_members(scores, "mean_minus_std", 0.3).tolist() == pytest.approx([4 - 0.3 * (26 / 3) ** 0.5, 4])


def test_by_definition() -> None:
    scores = torch.randn(5, 7, dtype=torch.float64)
    for row in range(7):
        members = scores[:, row].tolist()
        mean = statistics.fmean(members)
        expected = {
            "mean": mean,
            "min": min(members),
            "mean_minus_std": mean - 0.7 * statistics.pstdev(members),
            "mean_minus_variance": mean - 0.7 * statistics.pvariance(members),
        }
        for how in ALL:
            assert reduce_members(scores, how, 0.7)[row].item() == pytest.approx(expected[how])


@pytest.mark.parametrize("how", ALL)
def test_relations(how: Reduction) -> None:
    scores = torch.randn(4, 6, dtype=torch.float64)
    reduced = reduce_members(scores, how, 0.5)
    torch.testing.assert_close(reduce_members(scores[[2, 0, 3, 1]], how, 0.5), reduced)  # members in any order
    torch.testing.assert_close(reduce_members(scores[:, [5, 0]], how, 0.5), reduced[[5, 0]])  # a row is its own
    torch.testing.assert_close(reduce_members(scores + 3, how, 0.5), reduced + 3)
    torch.testing.assert_close(reduce_members(scores[:1], how, 0.5), scores[0])  # one member is itself
    torch.testing.assert_close(reduce_members(scores[:1].repeat(4, 1), how, 0.5), scores[0])
    assert (reduced <= scores.mean(0) + 1e-12).all()


def test_a_spread_has_no_price_at_zero_and_its_scale_is_that_of_the_scores_for_the_deviation_only() -> None:
    scores = torch.randn(4, 6, dtype=torch.float64)
    for how in ("mean_minus_std", "mean_minus_variance"):
        torch.testing.assert_close(reduce_members(scores, how, 0.0), scores.mean(0))
    torch.testing.assert_close(
        reduce_members(10 * scores, "mean_minus_std", 0.5), 10 * reduce_members(scores, "mean_minus_std", 0.5)
    )
    assert not torch.allclose(
        reduce_members(10 * scores, "mean_minus_variance", 0.5), 10 * reduce_members(scores, "mean_minus_variance", 0.5)
    )


@pytest.mark.parametrize("how", ALL)
def test_gradients(how: Reduction) -> None:
    scores = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: reduce_members(s, how, 0.3), scores)
