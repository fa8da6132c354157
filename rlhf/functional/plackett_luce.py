"""The listwise loss of a ranking: the best is chosen of all, the next of what is left, and so on (Plackett-Luce).

Luce 1959 and Plackett 1975; as a ranking loss ListMLE (Xia et al. 2008). Two completions are Bradley-Terry. Where the
mean over pairs counts the worst completion K - 1 times, each choice here is one term whatever is left to choose from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf.functional.preference_loss import PairMean


def plackett_luce_loss(
    scores_BK: Tensor, present_BK: Tensor, margin_B: Tensor | None = None, label_smoothing: float = 0.0
) -> PairMean:
    """`mean over i < n - 1 of -log (exp s_i / sum over j >= i of exp(s_j + (j - i) margin))`, of n present completions.

    `margin_B` is by how much each completion is better than the next one down, as in `ranking_loss`. Smoothing gives
    the choice made the probability `1 - label_smoothing` and shares the rest among the completions not chosen, so that
    for two completions it is that of `ranking_loss`. The mean over choices, not their sum: a prompt weighs one.
    """
    num = scores_BK.shape[1]
    place_K = torch.arange(num, device=scores_BK.device)
    beyond_KK = place_K - place_K.unsqueeze(1)  # [i, j]: how far below i the completion j is
    steps_BKK = beyond_KK * (0 if margin_B is None else margin_B.view(-1, 1, 1))
    logits_BKK = torch.where(present_BK, scores_BK, 0).unsqueeze(1) + steps_BKK
    left_BKK = present_BK.unsqueeze(1) & (beyond_KK >= 0)
    # Finite, so that a row in which nothing is left has no NaN to leak into the gradient.
    nll_BKK = -torch.where(left_BKK, logits_BKK, torch.finfo(scores_BK.dtype).min).log_softmax(2)
    chosen_BK = nll_BKK.diagonal(dim1=1, dim2=2)
    passed_BKK = left_BKK & (beyond_KK > 0)
    num_passed_BK = passed_BKK.sum(2)
    is_choice_BK = present_BK & (num_passed_BK > 0)
    if label_smoothing:
        passed_BK = torch.where(passed_BKK, nll_BKK, 0).sum(2) / num_passed_BK.clamp(min=1)
        chosen_BK = (1 - label_smoothing) * chosen_BK + label_smoothing * passed_BK
    num_choices_B = is_choice_BK.sum(1)
    mean_B = torch.where(is_choice_BK, chosen_BK, 0).sum(1) / num_choices_B.clamp(min=1)
    return PairMean(mean_B, num_choices_B > 0)
