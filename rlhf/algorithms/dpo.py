"""Direct preference optimisation: rankings without a reward model, and its relatives by the loss of a pair.

Rafailov et al. 2023 (arXiv:2305.18290): a policy that is optimal under a KL penalty has the reward
`beta log(pi/pi_ref)` up to a constant of the prompt, so a Bradley-Terry loss can be put on the policy itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.preference import PairLoss, PreferenceMethod, lengths, summed
from rlhf.algorithms.reference_logprobs import ReferenceLogprobs
from rlhf.config import PartConfig
from rlhf.functional.dpo_loss import dpo_hinge_loss, dpo_loss, ipo_loss, robust_dpo_loss
from rlhf.protocols import Run
from rlhf.types import PreferenceBatch

PairLossName = Literal["sigmoid", "hinge", "ipo", "robust"]


class DPOLossConfig(PartConfig):
    """Options of the loss, offline and online."""

    loss: PairLossName = "sigmoid"
    """Of a pair: `sigmoid` (DPO), `hinge` (SLiC, arXiv:2305.10425), `ipo` (arXiv:2310.12036, on log-probs averaged
    over tokens), `robust` (arXiv:2403.00409).
    """
    beta: float = Field(default=0.1, gt=0)
    """The implicit reward is `beta log(pi/pi_ref)`: the smaller, the further the policy may go. For `ipo` it is tau."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels taken to be wrong: with `sigmoid` conservative DPO, with `robust` the noise it undoes."""
    length_normalised: bool = False
    """Log-probs are averaged over a completion's tokens instead of summed; beta should then be larger. `ipo` always."""

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> DPOLossConfig:
        if self.label_smoothing and self.loss in ("hinge", "ipo"):
            raise ValueError(
                f"label_smoothing {self.label_smoothing} has no meaning for the loss {self.loss}; leave it out, or use "
                "the loss sigmoid or robust"
            )
        return self


class DPOConfig(DPOLossConfig, PassesConfig):
    """Options of `dpo`."""

    precompute_reference: bool = False
    """Ask the reference once for each row and remember the answer: after the first pass over the data it is idle."""


@dataclass(frozen=True)
class DPOLoss(PairLoss):
    """A loss of `log(pi/pi_ref)` of the better completion minus that of the worse."""

    loss: PairLossName = "sigmoid"
    label_smoothing: float = 0.0
    length_normalised: bool = False

    @classmethod
    def of(cls, config: DPOLossConfig) -> DPOLoss:
        """The loss these options ask for."""
        return cls(config.beta, config.loss, config.label_smoothing, config.length_normalised)

    def compared(self, logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
        assert batch.ref_logprobs_BK is not None
        logratios_BK = summed(logprobs, batch) - batch.ref_logprobs_BK
        if self.length_normalised or self.loss == "ipo":
            return logratios_BK / lengths(batch).clamp(min=1)
        return logratios_BK

    def of_gaps(self, gaps: Tensor) -> Tensor:
        if self.loss == "sigmoid":
            return dpo_loss(gaps, self.beta, self.label_smoothing)
        if self.loss == "robust":
            return robust_dpo_loss(gaps, self.beta, self.label_smoothing)
        return dpo_hinge_loss(gaps, self.beta) if self.loss == "hinge" else ipo_loss(gaps, self.beta)


class DPO(PreferenceMethod):
    """DPO on rankings as they are given."""

    needs = frozenset({"policy", "reference"})

    def __init__(self, config: DPOConfig) -> None:
        super().__init__(config, DPOLoss.of(config))
        self.reference_logprobs = ReferenceLogprobs(remember=config.precompute_reference)

    def prepared(self, run: Run, batch: PreferenceBatch) -> PreferenceBatch:
        logprobs_B = self.reference_logprobs.of(run, batch.inputs)
        return replace(batch, ref_logprobs_BK=logprobs_B.view(batch.present_BK.shape))

    def state(self) -> dict[str, float]:
        return self.reference_logprobs.state()

    def restore(self, state: Mapping[str, float]) -> None:
        self.reference_logprobs.restore(state)
