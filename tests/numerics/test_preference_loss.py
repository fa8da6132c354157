"""Bradley-Terry for pairs and rankings, centring, accuracy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.preference_loss import (
    bradley_terry_loss,
    centring_loss,
    mean_over_pairs,
    ranking_accuracy,
    ranking_loss,
)

NAN = math.nan


def rankings(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Five prompts of up to 4 completions; the last two prompts have one and none."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    present = torch.arange(4) < torch.tensor([4, 3, 2, 1, 0]).unsqueeze(1)
    return scores, present, torch.rand(5, generator=generator, dtype=torch.float64)


def nll(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


def test_bradley_terry_by_hand() -> None:
    chosen, rejected = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])
    assert bradley_terry_loss(chosen, rejected).tolist() == pytest.approx([nll(1), math.log(2)])
    assert bradley_terry_loss(chosen, rejected, torch.tensor([0.5, 2.0])).tolist() == pytest.approx([nll(0.5), nll(-2)])


def test_bradley_terry_is_stable_far_out() -> None:
    chosen = torch.tensor([1000.0, -1000.0], requires_grad=True)
    losses = bradley_terry_loss(chosen, torch.zeros(2))
    assert losses.tolist() == [0, 1000]
    losses.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.tolist() == [0, -1]


def test_rankings_by_definition() -> None:
    scores, present, margin = rankings()
    losses, has_pair = ranking_loss(scores, present, margin)
    centring, _ = centring_loss(scores, present)
    accuracy, _ = ranking_accuracy(scores, present)
    for b in range(5):
        s = scores[b, present[b]].tolist()
        pairs = list(itertools.combinations(range(len(s)), 2))
        assert has_pair[b].item() == bool(pairs)
        count = max(len(pairs), 1)
        expected = sum(nll(s[i] - s[j] - (j - i) * margin[b].item()) for i, j in pairs) / count
        assert losses[b].item() == pytest.approx(expected)
        assert centring[b].item() == pytest.approx(sum((s[i] + s[j]) ** 2 for i, j in pairs) / count)
        assert accuracy[b].item() == pytest.approx(sum(s[i] > s[j] for i, j in pairs) / count)


def test_any_loss_of_a_gap_is_a_mean_over_pairs() -> None:
    scores, present, _ = rankings()
    cubed, has_pair = mean_over_pairs(torch.where(present, scores, NAN), present, lambda gap: gap**3)
    for b in range(5):
        gaps = [i - j for i, j in itertools.combinations(scores[b, present[b]].tolist(), 2)]
        assert cubed[b].item() == pytest.approx(sum(gap**3 for gap in gaps) / max(len(gaps), 1))
        assert has_pair[b].item() == bool(gaps)
    plain = mean_over_pairs(scores, present, lambda gap: -torch.nn.functional.logsigmoid(gap))
    torch.testing.assert_close(plain.mean_B, ranking_loss(scores, present).mean_B)


def test_two_completions_are_a_pair() -> None:
    scores, _, margin = rankings()
    both = torch.ones(5, 2, dtype=torch.bool)
    losses = ranking_loss(scores[:, :2], both, margin).mean_B
    torch.testing.assert_close(losses, bradley_terry_loss(scores[:, 0], scores[:, 1], margin))
    torch.testing.assert_close(ranking_loss(scores[:, :2], both).mean_B, bradley_terry_loss(scores[:, 0], scores[:, 1]))
    torch.testing.assert_close(centring_loss(scores[:, :2], both).mean_B, (scores[:, 0] + scores[:, 1]).square())


def test_a_shift_of_all_scores_changes_the_centring_only() -> None:
    scores, present, margin = rankings()
    torch.testing.assert_close(
        ranking_loss(scores + 3, present, margin).mean_B, ranking_loss(scores, present, margin).mean_B
    )
    assert centring_loss(scores.abs() + 3, present).mean_B[0] > centring_loss(scores.abs(), present).mean_B[0]
    mirrored = torch.tensor([[1.5, -1.5]])
    assert centring_loss(mirrored, torch.ones(1, 2, dtype=torch.bool)).mean_B.item() == 0


def test_blanks_cannot_leak_and_more_columns_cannot_matter() -> None:
    scores, present, margin = rankings()
    dirty = torch.where(present, scores, NAN).requires_grad_()
    wide = torch.cat([dirty, torch.full((5, 2), NAN)], dim=1)
    wide_present = torch.cat([present, torch.zeros(5, 2, dtype=torch.bool)], dim=1)
    for ours, theirs in (
        (ranking_loss(wide, wide_present, margin), ranking_loss(scores, present, margin)),
        (centring_loss(wide, wide_present), centring_loss(scores, present)),
        (ranking_accuracy(wide, wide_present), ranking_accuracy(scores, present)),
    ):
        torch.testing.assert_close(ours.mean_B, theirs.mean_B)
        assert torch.equal(ours.has_pair_B, theirs.has_pair_B)
    (ranking_loss(dirty, present, margin).mean_B.sum() + centring_loss(dirty, present).mean_B.sum()).backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert (dirty.grad[~present] == 0).all()


def test_a_prompt_weighs_one_however_many_pairs_it_has() -> None:
    flat = torch.zeros(3, 4)
    present = torch.tensor([[True] * 4, [True, True, True, False], [True, True, False, False]])
    assert ranking_loss(flat, present).mean_B.tolist() == pytest.approx([math.log(2)] * 3)


def test_a_constant_model_is_half_right() -> None:
    present = torch.ones(2, 3, dtype=torch.bool)
    assert ranking_accuracy(torch.zeros(2, 3), present).mean_B.tolist() == [0.5, 0.5]
    assert ranking_accuracy(torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), present).mean_B.tolist() == [1, 0]
    two_of_three = ranking_accuracy(torch.tensor([[3.0, 1.0, 2.0]]), present[:1])
    assert two_of_three.mean_B.item() == pytest.approx(2 / 3)


def test_gradients() -> None:
    scores, present, margin = rankings()
    scores.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda s: ranking_loss(s, present, margin).mean_B, scores)
    assert check(lambda s: centring_loss(s, present).mean_B, scores)
    assert check(lambda s: bradley_terry_loss(s[:, 0], s[:, 1], margin), scores)
    assert check(lambda s: mean_over_pairs(s, present, lambda gap: gap.square()).mean_B, scores)
