"""The listwise loss of rankings, and label smoothing of both forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.plackett_luce import plackett_luce_loss
from rlhf.functional.preference_loss import bradley_terry_loss, ranking_loss

NAN = math.nan
LOSSES = (plackett_luce_loss, ranking_loss)


def rankings(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Five prompts of up to 4 completions; the last two prompts have one and none."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    present = torch.arange(4) < torch.tensor([4, 3, 2, 1, 0]).unsqueeze(1)
    return scores, present, torch.rand(5, generator=generator, dtype=torch.float64)


def all_present(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape, dtype=torch.bool)


def nll(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


# --- Plackett-Luce ---------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    scores = torch.tensor([[math.log(3), math.log(2), 0.0]])
    loss, has_pair = plackett_luce_loss(scores, all_present(scores))
    # 3 of 3 + 2 + 1, then 2 of 2 + 1: (log 2 + log 3/2) / 2.
    assert loss.item() == pytest.approx((math.log(2) + math.log(1.5)) / 2)
    assert has_pair.tolist() == [True]
    # A margin of log 2 makes each weight twice as large for every place it is below: 3 + 4 + 4, then 2 + 2.
    with_margin = plackett_luce_loss(scores, all_present(scores), torch.tensor([math.log(2)])).mean_B
    assert with_margin.item() == pytest.approx((math.log(11 / 3) + math.log(2)) / 2)
    # A tenth to the two passed over (3/6 -> 2/6 and 1/6), then to the one (2/3 -> 1/3).
    smooth = plackett_luce_loss(scores, all_present(scores), label_smoothing=0.1).mean_B
    first = 0.9 * math.log(2) + 0.1 * (math.log(3) + math.log(6)) / 2
    assert smooth.item() == pytest.approx((first + 0.9 * math.log(1.5) + 0.1 * math.log(3)) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_by_definition(smoothing: float) -> None:
    scores, present, margin = rankings()
    losses, has_pair = plackett_luce_loss(scores, present, margin, smoothing)
    for b in range(5):
        s = scores[b, present[b]].tolist()
        terms = []
        for i in range(len(s) - 1):
            total = sum(math.exp(s[j] + (j - i) * margin[b].item()) for j in range(i, len(s)))
            minus_logs = [math.log(total) - s[j] - (j - i) * margin[b].item() for j in range(i, len(s))]
            others = minus_logs[1:]
            terms.append((1 - smoothing) * minus_logs[0] + smoothing * sum(others) / len(others))
        assert has_pair[b].item() == bool(terms)
        assert losses[b].item() == pytest.approx(sum(terms) / max(1, len(terms)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_completions_are_bradley_terry(smoothing: float) -> None:
    scores, _, margin = rankings()
    pair, both = scores[:, :2], all_present(scores[:, :2])
    for given in (None, margin):
        listwise = plackett_luce_loss(pair, both, given, smoothing).mean_B
        torch.testing.assert_close(listwise, ranking_loss(pair, both, given, smoothing).mean_B)


def test_of_three_it_is_not_the_mean_over_pairs() -> None:
    """The worst of three is in two pairs and in two choices, but is passed over in both at once."""
    scores = torch.tensor([[1.0, 0.0, 2.0]])
    assert (
        abs(plackett_luce_loss(scores, all_present(scores)).mean_B - ranking_loss(scores, all_present(scores))[0]) > 0.1
    )


def test_probabilities_of_all_orders_sum_to_one() -> None:
    import itertools

    scores = torch.randn(4, dtype=torch.float64)
    orders = torch.stack([scores[list(order)] for order in itertools.permutations(range(4))])
    total = (-3 * plackett_luce_loss(orders, all_present(orders)).mean_B).exp().sum()  # 3 choices of 4
    assert total.item() == pytest.approx(1.0)


# --- both forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_blanks_cannot_leak_and_more_columns_cannot_matter(loss, smoothing) -> None:
    scores, present, margin = rankings()
    dirty = torch.where(present, scores, NAN).requires_grad_()
    wide = torch.cat([dirty, torch.full((5, 2), NAN)], dim=1)
    wide_present = torch.cat([present, torch.zeros(5, 2, dtype=torch.bool)], dim=1)
    ours, theirs = loss(wide, wide_present, margin, smoothing), loss(scores, present, margin, smoothing)
    torch.testing.assert_close(ours.mean_B, theirs.mean_B)
    assert torch.equal(ours.has_pair_B, theirs.has_pair_B)
    assert theirs.mean_B[3:].tolist() == [0, 0]
    ours.mean_B.sum().backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert (dirty.grad[~present] == 0).all()
    assert dirty.grad[3:].tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("loss", LOSSES)
def test_only_differences_of_scores_matter_and_rows_are_their_own(loss) -> None:
    scores, present, margin = rankings()
    expected = loss(scores, present, margin, 0.1).mean_B
    torch.testing.assert_close(loss(scores + 3, present, margin, 0.1).mean_B, expected)
    order = torch.tensor([2, 0, 4, 1, 3])
    torch.testing.assert_close(loss(scores[order], present[order], margin[order], 0.1).mean_B, expected[order])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_prompt_weighs_one_however_long_its_list(loss) -> None:
    flat = torch.zeros(2, 4)
    present = torch.tensor([[True] * 4, [True, True, False, False]])
    pairs = {ranking_loss: [math.log(2)] * 2, plackett_luce_loss: [math.log(4 * 3 * 2) / 3, math.log(2)]}
    assert loss(flat, present).mean_B.tolist() == pytest.approx(pairs[loss])


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss) -> None:
    scores, present, margin = rankings()
    scores.requires_grad_()
    for smoothing in (0.0, 0.2):
        assert torch.autograd.gradcheck(lambda s, e=smoothing: loss(s, present, margin, e).mean_B, scores)
    (gradient,) = torch.autograd.grad(loss(scores, present).mean_B.sum(), scores)
    assert (gradient[:3, 0] < 0).all()  # the best goes up
    worst = gradient[torch.arange(3), torch.tensor([3, 2, 1])]
    assert (worst > 0).all()  # the worst goes down


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_stable_far_out(loss) -> None:
    scores = torch.tensor([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 1000.0]], requires_grad=True)
    losses = loss(scores, all_present(scores)).mean_B
    assert losses.isfinite().all()
    assert losses[0].item() == 0
    assert losses[1].item() > 1000
    losses.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


# --- label smoothing -------------------------------------------------------------------------------------------------


def test_smoothing_by_hand() -> None:
    scores = torch.tensor([[2.0, 1.0]])
    smooth = ranking_loss(scores, all_present(scores), torch.tensor([0.5]), 0.1).mean_B
    assert smooth.item() == pytest.approx(0.9 * nll(0.5) + 0.1 * nll(-0.5))


@pytest.mark.parametrize("loss", LOSSES)
def test_smoothing_is_least_at_the_gap_it_believes_in(loss) -> None:
    """log((1 - e) / e): beyond it the gradient turns round, where without smoothing it never does."""
    best = math.log(0.9 / 0.1)
    for gap, sign in ((best - 0.5, -1), (best + 0.5, 1)):
        scores = torch.tensor([[gap, 0.0]], requires_grad=True)
        for smoothing, expected in ((0.1, sign), (0.0, -1)):
            (gradient,) = torch.autograd.grad(loss(scores, all_present(scores), None, smoothing).mean_B.sum(), scores)
            assert math.copysign(1, gradient[0, 0].item()) == expected
    scores = torch.tensor([[best, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(scores, all_present(scores), None, 0.1).mean_B.sum(), scores)
    assert gradient.abs().max() < 1e-6


def test_no_smoothing_is_the_plain_loss() -> None:
    scores, _, margin = rankings()
    torch.testing.assert_close(
        ranking_loss(scores[:, :2], all_present(scores[:, :2]), margin, 0.0).mean_B,
        bradley_terry_loss(scores[:, 0], scores[:, 1], margin),
    )
