"""Several reward models as one: a policy finds what one of them overrates more easily than what all of them do.

Coste et al. 2023 (arXiv:2310.02743): the mean, the worst case, or the mean less a price on disagreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["mean", "min", "mean_minus_std", "mean_minus_variance"]


def reduce_members(scores_MB: Tensor, how: Reduction, coef: float) -> Tensor:
    """One score a row, `[B]`, of M members' scores.

    `mean_minus_variance` is the paper's uncertainty-weighted form (equation 4), `mean - coef * var`;
    `mean_minus_std` is in the unit of the scores, so that its `coef` does not depend on their scale. Both are taken
    over the members as they are (divided by M): one member disagrees with nobody.
    """
    if how == "min":
        return scores_MB.min(0).values
    mean_B = scores_MB.mean(0)
    if how == "mean":
        return mean_B
    variance_B = (scores_MB - mean_B).square().mean(0)
    return mean_B - coef * (variance_B.sqrt() if how == "mean_minus_std" else variance_B)
