"""Losses over preferences: Bradley-Terry for pairs and rankings, centring, and what any loss of a pair shares.

Rankings are `scores_BK`, best first, with bool `present_BK` False where a prompt has fewer than K completions. A
prompt's loss is the mean over its pairs, so that a prompt with many completions does not outweigh one with two
(Ouyang et al. 2022, InstructGPT, arXiv:2203.02155, equation 1). A prompt without a pair has loss 0 and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class PairMean(NamedTuple):
    """A mean over each prompt's pairs."""

    mean_B: Tensor
    has_pair_B: Tensor
    """bool: False where fewer than two completions are present; such a prompt leaves the denominator."""


def bradley_terry_loss(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor | None = None) -> Tensor:
    """`-log sigmoid(s_chosen - s_rejected - margin)`, `[B]` (Bradley and Terry 1952; margin: Llama 2, 2307.09288)."""
    gap_B = chosen_B - rejected_B
    return -logsigmoid(gap_B if margin_B is None else gap_B - margin_B)


def ranking_loss(
    scores_BK: Tensor, present_BK: Tensor, margin_B: Tensor | None = None, label_smoothing: float = 0.0
) -> PairMean:
    """`mean over i < j of -log sigmoid(s_i - s_j - (j - i) * margin)`: all K(K-1)/2 pairs; K = 2 is Bradley-Terry.

    `margin_B` is by how much each completion is better than the next one down. With smoothing the loss is the cross
    entropy to labels that are right with probability `1 - e`: `-(1 - e) log sigmoid(g) - e log sigmoid(-g)` of each gap
    g, as in conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences").
    """
    better_P, worse_P = _pairs(scores_BK)
    gaps_BP = _present(scores_BK, present_BK)[:, better_P] - _present(scores_BK, present_BK)[:, worse_P]
    if margin_B is not None:
        gaps_BP = gaps_BP - margin_B.unsqueeze(1) * (worse_P - better_P)
    losses_BP = -logsigmoid(gaps_BP)
    if label_smoothing:
        losses_BP = (1 - label_smoothing) * losses_BP - label_smoothing * logsigmoid(-gaps_BP)
    return _pair_mean(losses_BP, present_BK)


def centring_loss(scores_BK: Tensor, present_BK: Tensor) -> PairMean:
    """`mean over i < j of (s_i + s_j)^2`: a Bradley-Terry loss leaves the scores' zero free, this pulls it to 0.

    Eisenstein et al. 2023 (arXiv:2312.09244), for K = 2 `(s_chosen + s_rejected)^2`; a coefficient of 0.01 is usual.
    """
    better_P, worse_P = _pairs(scores_BK)
    kept_BK = _present(scores_BK, present_BK)
    return _pair_mean((kept_BK[:, better_P] + kept_BK[:, worse_P]).square(), present_BK)


def ranking_accuracy(scores_BK: Tensor, present_BK: Tensor) -> PairMean:
    """Share of each prompt's pairs in the right order. A tie counts one half, so that a constant model has 0.5."""
    better_P, worse_P = _pairs(scores_BK)
    kept_BK = _present(scores_BK, present_BK)
    gaps_BP = kept_BK[:, better_P] - kept_BK[:, worse_P]
    return _pair_mean((gaps_BP > 0) + 0.5 * (gaps_BP == 0), present_BK)


def mean_over_pairs(scores_BK: Tensor, present_BK: Tensor, loss_of_gap: Callable[[Tensor], Tensor]) -> PairMean:
    """`mean over i < j of loss(s_i - s_j)` for any loss of a gap, `[B, P]` to `[B, P]`; K = 2 is the loss itself."""
    better_P, worse_P = _pairs(scores_BK)
    kept_BK = _present(scores_BK, present_BK)
    return _pair_mean(loss_of_gap(kept_BK[:, better_P] - kept_BK[:, worse_P]), present_BK)


def _pairs(scores_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the better and the worse of every pair."""
    better_P, worse_P = torch.triu_indices(scores_BK.shape[1], scores_BK.shape[1], offset=1, device=scores_BK.device)
    return better_P, worse_P


def _present(scores_BK: Tensor, present_BK: Tensor) -> Tensor:
    """Scores with blanks at zero: before the loss, for a NaN inside it would reach the gradient."""
    return torch.where(present_BK, scores_BK, 0)


def _pair_mean(x_BP: Tensor, present_BK: Tensor) -> PairMean:
    better_P, worse_P = _pairs(present_BK)
    both_BP = present_BK[:, better_P] & present_BK[:, worse_P]
    num_pairs_B = both_BP.sum(1)
    return PairMean(torch.where(both_BP, x_BP, 0).sum(1) / num_pairs_B.clamp(min=1), num_pairs_B > 0)
