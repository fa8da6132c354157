"""KTO: completions judged one by one, each against what the policy prefers on the whole.

Ethayarajh et al. 2024 (arXiv:2402.01306), equations 7 and 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf.functional.masked import masked_mean


def kto_reference_point(policy_logprobs_B: Tensor, ref_logprobs_B: Tensor, valid_B: Tensor) -> Tensor:
    """`z = max(0, mean of log(pi/pi_ref)(y'|x))`, a scalar without gradient: an estimate of KL(pi || pi_ref).

    The y' are completions of *other* prompts, log-probs are summed over them; rows that are not valid do not count.
    All rows of the global batch must be given: the mean is cut at 0 after it is taken, so pieces do not add up.
    """
    return masked_mean(policy_logprobs_B - ref_logprobs_B, valid_B).clamp(min=0).detach()


def kto_loss(
    logratios_B: Tensor,
    reference_point_B: Tensor,
    label_B: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """`w_D (1 - sigmoid(beta (r - z)))` for a good completion, `w_U (1 - sigmoid(beta (z - r)))` for a bad one, `[B]`.

    `r` is `log(pi/pi_ref)(y|x)` summed over the completion, `z` the reference point, taken as a constant.
    """
    gap_B = logratios_B - reference_point_B.detach()
    # 1 - sigmoid(x) is sigmoid(-x), which keeps its digits for large x.
    good_B = desirable_weight * torch.sigmoid(-beta * gap_B)
    bad_B = undesirable_weight * torch.sigmoid(beta * gap_B)
    return torch.where(label_B, good_B, bad_B)
