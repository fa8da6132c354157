"""Odds-ratio preference optimisation: SFT on the chosen completions that also lowers the odds of the rejected ones.

Hong et al. 2024 (arXiv:2403.07691), equations 4 to 7. No reference model, and no SFT stage before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from rlhf.algorithms.chosen_likelihood import ImitatingPairLoss, ImitatingPreferenceMethod
from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.preference import averaged
from rlhf.functional.reference_free import log_odds, odds_ratio_loss
from rlhf.types import PreferenceBatch


class ORPOConfig(PassesConfig):
    """Options of `orpo`."""

    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds-ratio term beside the likelihood of the chosen completions (lambda in the paper)."""


@dataclass(frozen=True)
class ORPOLoss(ImitatingPairLoss):
    """Likelihood of the best completions, plus beta times the loss of the log-odds' gap."""

    def compared(self, logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
        return log_odds(averaged(logprobs, batch))

    def of_gaps(self, gaps: Tensor) -> Tensor:
        return self.beta * odds_ratio_loss(gaps)


class ORPO(ImitatingPreferenceMethod):
    """ORPO on rankings as they are given."""

    def __init__(self, config: ORPOConfig) -> None:
        super().__init__(config, ORPOLoss(config.beta))
