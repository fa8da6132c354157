"""Preference losses that also imitate the best completion: CPO's and ORPO's likelihood term.

The term is a mean over the tokens of the best completions, as in SFT, while the pairs' term is a mean over prompts. The
engine divides by one number only, the prompts, so tokens carry weights taken from the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlhf.algorithms.preference import PairLoss, PreferenceMethod
from rlhf.functional.aggregation import weighted_sum
from rlhf.functional.masked import masked_sum
from rlhf.protocols import Run
from rlhf.types import LossSum, PolicyOutput, PreferenceBatch


@dataclass(frozen=True)
class ImitatingPairLoss(PairLoss):
    """A pair loss plus `nll_coef` times the mean negative log-likelihood of the best completions' tokens."""

    nll_coef: float = 1.0

    def __call__(self, output: PolicyOutput, batch: PreferenceBatch) -> LossSum:
        pairs = super().__call__(output, batch)
        weights = batch.candidates.loss_weights
        assert weights is not None, "the batch must have been through `with_imitated_tokens`"
        imitated = weights > 0
        nll = masked_sum(-output.logprobs.detach(), imitated)
        return LossSum(
            total=pairs.total + self.nll_coef * weighted_sum(-output.logprobs, weights),
            sums={**pairs.sums, "policy/chosen_nll": (nll, imitated.sum())},
        )


def with_imitated_tokens(batch: PreferenceBatch, num_prompts: float) -> PreferenceBatch:
    """The batch with token weights that make a sum over `num_prompts` a mean over the best completions' tokens.

    Must be given the whole global batch. A prompt without a pair is not counted, so it is not imitated either.
    """
    has_pair_BK = (batch.present_BK.sum(1, keepdim=True) > 1).expand_as(batch.present_BK)
    is_best_BK = torch.arange(batch.present_BK.shape[1], device=batch.present_BK.device) == 0
    imitated: Tensor = batch.candidates.response_mask & (has_pair_BK & is_best_BK).flatten().unsqueeze(1)
    weight = num_prompts / imitated.sum().clamp(min=1)
    weights = torch.where(imitated, weight, torch.zeros_like(weight))
    return replace(batch, candidates=replace(batch.candidates, loss_weights=weights))


class ImitatingPreferenceMethod(PreferenceMethod):
    """A preference method whose loss has the likelihood term."""

    def prepared(self, run: Run, batch: PreferenceBatch) -> PreferenceBatch:
        return with_imitated_tokens(batch, self.loss.count(batch))
