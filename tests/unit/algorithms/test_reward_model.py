"""The reward model: its loss by hand, its heads, however a batch is cut, and what it says of held-out rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.reward_model import RankingLoss, RewardModel, RewardModelConfig, own_scores
from rlhf.engines.sharding import shard
from rlhf.types import HeadedRewardOutput, PreferenceBatch, RewardOutput, TokenBatch

LN2, LN3, LN6, LN9 = (math.log(n) for n in (2, 3, 6, 9))
BOTH = pytest.mark.parametrize("kind", ["pairs", "plackett_luce"])


def ranked(*lengths: Sequence[int], **own: Tensor) -> PreferenceBatch:
    """A ranking for each list: completions of so many tokens, best first, after a prompt of two; then blanks."""
    most = max(map(len, lengths))
    length_BK = torch.tensor([[*row, *[0] * (most - len(row))] for row in lengths])
    places, length_N1 = torch.arange(2 + int(length_BK.max())), length_BK.view(-1, 1)
    attended = (length_N1 > 0) & (places < 2 + length_N1)
    rows = TokenBatch(tokens=attended.long(), attention_mask=attended, response_mask=attended & (places >= 2))
    own = {"margin_B": torch.zeros(len(lengths)), **own}
    return PreferenceBatch(candidates=rows, present_BK=length_BK > 0, **own)


def said(*scores: float) -> RewardOutput:
    return RewardOutput(scores_B=torch.tensor(scores))


def total(loss_fn: RankingLoss, batch: PreferenceBatch, *scores: float) -> float:
    return loss_fn(said(*scores), batch).total.item()


def figures(batch: PreferenceBatch, *scores: float) -> dict[str, list[float]]:
    sums = RankingLoss()(said(*scores), batch).sums
    return {name: [part.item() for part in pair] for name, pair in sums.items()}


# --- the loss --------------------------------------------------------------------------------------------------------


@BOTH
def test_pairs_by_hand(kind: Any) -> None:
    """The better one is found better with probability 3/4, and with 1/7."""
    batch, loss_fn = ranked([3, 3], [3, 3]), RankingLoss(kind=kind)
    assert total(loss_fn, batch, LN3, 0.0, 0.0, LN6) == pytest.approx(math.log(4 / 3) + math.log(7))
    assert loss_fn.count(batch) == 2
    assert not loss_fn.entropy_grad


def test_three_by_hand() -> None:
    """Scores of 6 : 2 : 1. Pairs are 3 to 1, 6 to 1 and 2 to 1; choices are 6 of 9 and then 2 of 3."""
    batch, scores = ranked([3, 3, 3]), (LN6, LN2, 0.0)
    pairs = (math.log(4 / 3) + math.log(7 / 6) + math.log(3 / 2)) / 3
    assert total(RankingLoss(), batch, *scores) == pytest.approx(pairs)
    assert total(RankingLoss(kind="plackett_luce"), batch, *scores) == pytest.approx(math.log(3 / 2))


def test_smoothing_by_hand() -> None:
    pair, three = ranked([3, 3]), ranked([3, 3, 3])
    smoothed = 0.8 * math.log(4 / 3) + 0.2 * math.log(4)
    assert total(RankingLoss(label_smoothing=0.2), pair, LN3, 0.0) == pytest.approx(smoothed)
    listwise = RankingLoss(kind="plackett_luce", label_smoothing=0.2)
    assert total(listwise, pair, LN3, 0.0) == pytest.approx(smoothed)
    first = 0.8 * math.log(9 / 6) + 0.2 * (math.log(9 / 2) + LN9) / 2
    second = 0.8 * math.log(3 / 2) + 0.2 * LN3
    assert total(listwise, three, LN6, LN2, 0.0) == pytest.approx((first + second) / 2)


@BOTH
def test_a_margin_comes_off_the_gap(kind: Any) -> None:
    """A gap of log 6 less a margin of log 3 leaves 2 to 1; a prompt without a margin keeps its 3 to 1."""
    batch = ranked([3, 3], [3, 3], margin_B=torch.tensor([LN3, 0.0]))
    assert total(RankingLoss(kind=kind), batch, LN6, 0.0, LN3, 0.0) == pytest.approx(math.log(3 / 2) + math.log(4 / 3))


@BOTH
def test_centring_adds_the_squared_sum_of_each_pair(kind: Any) -> None:
    """Of scores 1, 2 and -1 the pairs sum to 3, 0 and 1: a mean square of 10/3."""
    batch, scores = ranked([3, 3, 3], [3, 3]), (1.0, 2.0, -1.0, 0.5, 0.5, math.nan)
    centred = total(RankingLoss(centring=0.3, kind=kind), batch, *scores)
    assert centred - total(RankingLoss(kind=kind), batch, *scores) == pytest.approx(0.3 * (10 / 3 + 1), rel=1e-5)


@BOTH
@pytest.mark.parametrize("options", [{}, {"centring": 0.1}, {"label_smoothing": 0.2}])
def test_what_is_blank_or_has_no_rival_counts_for_nothing(kind: Any, options: dict[str, float]) -> None:
    loss_fn, batch = RankingLoss(kind=kind, **options), ranked([3, 3], [3], [3, 3, 3])
    scores = torch.tensor([LN3, 0.0, math.nan, 5.0, math.nan, math.nan, 0.0, LN2, LN6], requires_grad=True)
    found = loss_fn(RewardOutput(scores_B=scores), batch).total
    alone = total(loss_fn, ranked([3, 3]), LN3, 0.0) + total(loss_fn, ranked([3, 3, 3]), 0.0, LN2, LN6)
    assert found.item() == pytest.approx(alone)
    assert loss_fn.count(batch) == 2
    (gradient,) = torch.autograd.grad(found, scores)
    assert (gradient != 0).tolist() == [True, True, False, False, False, False, True, True, True]


@BOTH
def test_the_better_goes_up_and_the_worse_down(kind: Any) -> None:
    scores = torch.tensor([0.1, 0.5, 0.2], dtype=torch.float64, requires_grad=True)
    loss_fn, batch = RankingLoss(kind=kind, centring=0.01, label_smoothing=0.1), ranked([3, 3, 3])
    assert torch.autograd.gradcheck(lambda s: loss_fn(RewardOutput(scores_B=s), batch).total, scores)
    (gradient,) = torch.autograd.grad(loss_fn(RewardOutput(scores_B=scores), batch).total, scores)
    assert gradient[0] < 0 < gradient[2]


def test_figures_are_the_share_of_pairs_in_order_and_the_best_above_the_worst() -> None:
    """Of three, two pairs are in order and one is a tie; then one that is not; a prompt without a pair is left out."""
    batch = ranked([3, 3, 3], [3, 3], [3])
    found = figures(batch, 2.0, 2.0, 1.5, 1.0, 4.0, math.nan, 9.0, math.nan, math.nan)
    assert found == {
        "reward/accuracy": [pytest.approx(2.5 / 3), 2],
        "reward/margin": [pytest.approx(0.5 - 3.0), 2],
    }
    scores = torch.tensor([1.0, 0.0], requires_grad=True)
    sums = RankingLoss()(RewardOutput(scores_B=scores), ranked([3, 3])).sums
    assert not any(part.requires_grad for pair in sums.values() for part in pair)


# --- however it is cut -----------------------------------------------------------------------------------------------


def random_rankings() -> tuple[PreferenceBatch, Tensor, Tensor]:
    """Six rankings of up to four, of two heads; scores by head, NaN where a candidate is missing."""
    batch = ranked(
        [1, 2, 3, 4], [2], [3, 1], [2, 2, 2], [4, 1, 1, 1], [1, 5],
        margin_B=torch.rand(6), head_B=torch.tensor([0, 1, 1, 0, 1, 0]),
    )  # fmt: skip
    scores_NH = torch.where(batch.present_BK.view(-1, 1), 2 * torch.randn(24, 2), math.nan)
    return batch, scores_NH, scores_NH.sum(1)


def both(heads: Tensor) -> HeadedRewardOutput:
    return HeadedRewardOutput(scores_B=heads.sum(1), heads_BH=heads)


@BOTH
@pytest.mark.parametrize("options", [{}, {"centring": 0.1, "label_smoothing": 0.2}])
def test_neither_pieces_nor_blank_prompts_matter(kind: Any, options: dict[str, float]) -> None:
    loss_fn = RankingLoss(kind=kind, **options)
    batch, heads, _ = random_rankings()
    leaf = heads.requires_grad_()
    whole = loss_fn(both(leaf), batch)
    pieces = [
        loss_fn(both(leaf[4 * row : 4 * row + 4]), batch[torch.tensor([row])]) for row in reversed(range(len(batch)))
    ]
    blank = shard(batch, torch.tensor([], dtype=torch.int64), 1)
    pieces.append(loss_fn(both(torch.full((4, 2), math.nan)), blank))
    assert loss_fn.count(blank) == 0
    assert loss_fn.count(batch) == 5
    summed = sum((piece.total for piece in pieces), torch.zeros(()))
    torch.testing.assert_close(summed, whole.total)
    torch.testing.assert_close(torch.autograd.grad(summed, leaf)[0], torch.autograd.grad(whole.total, leaf)[0])
    for name, pair in whole.sums.items():
        for place, part in enumerate(pair):
            assert sum(piece.sums[name][place].item() for piece in pieces) == pytest.approx(part.item(), rel=1e-5)


def test_the_order_of_prompts_cannot_matter_and_a_shift_of_all_scores_neither() -> None:
    batch, _, scores = random_rankings()
    batch, order = replace(batch, head_B=None), torch.tensor([4, 0, 5, 2, 1, 3])
    whole = RankingLoss()(RewardOutput(scores_B=scores), batch).total
    turned = RankingLoss()(RewardOutput(scores_B=scores.view(6, 4)[order].flatten()), batch[order]).total
    shifted = RankingLoss()(RewardOutput(scores_B=scores + 3.0), batch).total
    torch.testing.assert_close(turned, whole)
    torch.testing.assert_close(shifted, whole)


# --- heads -----------------------------------------------------------------------------------------------------------


def test_a_ranking_is_scored_by_the_head_it_trains() -> None:
    heads = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]], requires_grad=True)
    batch = ranked([3, 3], [3, 3], head_B=torch.tensor([1, 0]))
    assert own_scores(both(heads), batch).tolist() == [[10.0, 20.0], [3.0, 4.0]]
    (gradient,) = torch.autograd.grad(RankingLoss()(both(heads), batch).total, heads)
    assert (gradient != 0).tolist() == [[False, True], [False, True], [True, False], [True, False]]


def test_without_a_head_of_its_own_a_ranking_is_scored_by_all_of_them_or_the_only_one() -> None:
    heads = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    assert own_scores(both(heads), ranked([3, 3], [3, 3])).tolist() == [[11.0, 22.0], [33.0, 44.0]]
    named = ranked([3, 3], [3, 3], head_B=torch.tensor([1, 0]))
    assert own_scores(said(1.0, 2.0, 3.0, 4.0), named).tolist() == [[1.0, 2.0], [3.0, 4.0]]


# --- the method ------------------------------------------------------------------------------------------------------


def measured(method: RewardModel, output: RewardOutput, batch: PreferenceBatch | None) -> Any:
    """What the method says of these held-out rankings, whose token rows must be what is scored."""

    def forward(rows: TokenBatch) -> RewardOutput:
        assert batch is not None
        assert rows is batch.inputs
        return output

    run: Any = SimpleNamespace(reward=SimpleNamespace(forward=forward), held_out_rankings=lambda: batch)
    return method.measure(run)


def test_held_out_figures_by_hand() -> None:
    """A pair rightly ordered whose better is the shorter; three of which two pairs are in order, all of one length."""
    batch = ranked([2, 5], [3, 3, 3], [4, 1])
    output = said(1.0, 0.0, math.nan, 3.0, 1.0, 2.0, -1.0, -1.0, math.nan)
    assert measured(RewardModel(RewardModelConfig()), output, batch) == {
        "accuracy": pytest.approx([1.0, 2 / 3, 0.5]),
        "accuracy_longer_wins": pytest.approx([0.0, 0.5, 1.0]),
    }


def test_with_several_heads_each_has_a_figure_of_its_own_rankings() -> None:
    method = RewardModel(RewardModelConfig(heads=("helpful", "harmless"), head_column="about"))
    assert (method.heads, method.head_column) == (("helpful", "harmless"), "about")
    batch = ranked([1, 1], [1, 1], [1, 1], head_B=torch.tensor([1, 0, 1]))
    heads = torch.tensor([[0.0, 2.0], [9.0, 1.0], [0.0, 9.0], [5.0, 0.0], [7.0, 1.0], [0.0, 3.0]])
    found = measured(method, both(heads), batch)
    assert found["accuracy"] == [1.0, 0.0, 0.0]
    assert found["accuracy_helpful"] == [0.0]
    assert found["accuracy_harmless"] == [1.0, 0.0]


def test_nothing_held_out_is_no_figures() -> None:
    assert measured(RewardModel(RewardModelConfig()), said(), None) == {}


def test_options_reach_the_loss() -> None:
    config = RewardModelConfig(loss="plackett_luce", label_smoothing=0.1, centring=0.01)
    assert RewardModel(config).loss == RankingLoss(centring=0.01, kind="plackett_luce", label_smoothing=0.1)
    assert RewardModel(RewardModelConfig()).loss == RankingLoss()
