"""Contrastive preference optimisation: DPO with a uniform reference, held in place by imitating the chosen.

Xu et al. 2024 (arXiv:2401.08417), equations 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from rlhf.algorithms.chosen_likelihood import ImitatingPairLoss, ImitatingPreferenceMethod
from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.preference import summed
from rlhf.functional.dpo_loss import dpo_loss
from rlhf.types import PreferenceBatch


class CPOConfig(PassesConfig):
    """Options of `cpo`."""

    beta: float = Field(default=0.1, gt=0)
    """The implicit reward is `beta log pi`, summed over the completion."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels taken to be wrong."""
    nll_coef: float = Field(default=1.0, ge=0)
    """Weight of the mean negative log-likelihood of the chosen completions' tokens."""


@dataclass(frozen=True)
class CPOLoss(ImitatingPairLoss):
    """DPO's loss of `log pi`, plus the likelihood of the best completions."""

    label_smoothing: float = 0.0

    def compared(self, logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
        return summed(logprobs, batch)

    def of_gaps(self, gaps: Tensor) -> Tensor:
        return dpo_loss(gaps, self.beta, self.label_smoothing)


class CPO(ImitatingPreferenceMethod):
    """CPO on rankings as they are given."""

    def __init__(self, config: CPOConfig) -> None:
        super().__init__(config, CPOLoss(config.beta, config.nll_coef, config.label_smoothing))
