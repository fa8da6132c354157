"""Simple preference optimisation: the average log-prob is the reward, and the chosen must win by a margin.

Meng et al. 2024 (arXiv:2405.14734), equation 6. No reference model.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.preference import PairLoss, PreferenceMethod, averaged
from rlhf.functional.reference_free import simpo_loss
from rlhf.types import PreferenceBatch


class SimPOConfig(PassesConfig):
    """Options of `simpo`."""

    beta: float = Field(default=2.0, gt=0)
    """The implicit reward is `beta log pi / length`."""
    gamma: float = Field(default=1.0, ge=0)
    """By how much the chosen completion's reward should exceed the rejected one's; 0.3 to 0.5 of beta is usual."""


@dataclass(frozen=True)
class SimPOLoss(PairLoss):
    """`-log sigmoid(beta gap of average log-probs - gamma)`."""

    gamma: float = 0.0

    def compared(self, logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
        return averaged(logprobs, batch)

    def of_gaps(self, gaps: Tensor) -> Tensor:
        return simpo_loss(gaps, self.beta, self.gamma)


class SimPO(PreferenceMethod):
    """SimPO on rankings as they are given."""

    def __init__(self, config: SimPOConfig) -> None:
        super().__init__(config, SimPOLoss(config.beta, config.gamma))
