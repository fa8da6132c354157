"""Kahneman-Tversky optimisation: learns from completions judged good or bad one by one, without pairs.

Ethayarajh et al. 2024 (arXiv:2402.01306), equations 7 and 8. A completion's implicit reward is measured against how
far the policy has come from its reference on the whole: the KL, estimated on completions paired with prompts of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.reference_logprobs import ReferenceLogprobs
from rlhf.functional.kto_loss import kto_loss, kto_reference_point
from rlhf.functional.masked import masked_sum
from rlhf.protocols import Algorithm, Run
from rlhf.types import LabelledBatch, LossSum, PolicyOutput, TokenBatch


class KTOConfig(PassesConfig):
    """Options of `kto`."""

    batch_size: int = Field(default=32, ge=2)
    """Judged completions in one optimizer step, whatever the number of workers. The KL is estimated from all of them,
    each paired with another's prompt, so at least two.
    """
    beta: float = Field(default=0.1, gt=0)
    """The implicit reward is `beta log(pi/pi_ref)`: the smaller, the further the policy may go."""
    desirable_weight: float = Field(default=1.0, ge=0)
    """Weight of a good completion. Where there are n_D good and n_U bad ones, `desirable_weight n_D` should be 1 to
    4/3 times `undesirable_weight n_U` (section 4.2).
    """
    undesirable_weight: float = Field(default=1.0, ge=0)
    """Weight of a bad completion."""
    precompute_reference: bool = False
    """Ask the reference once for each row and remember the answer. The completions that estimate the KL are paired
    anew in each batch, so for those it is still asked.
    """


@dataclass(frozen=True)
class KTOLoss:
    """One minus the value of each completion, divided by their number."""

    beta: float
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: LabelledBatch) -> float:
        """Rows with a completion; blank rows that only even out the ranks do not count."""
        return float(batch.response_mask.any(1).sum())

    def __call__(self, output: PolicyOutput, batch: LabelledBatch) -> LossSum:
        assert batch.ref_logprobs_B is not None
        assert batch.kl_B is not None
        present_B = batch.response_mask.any(1)
        logratios_B = masked_sum(output.logprobs, batch.response_mask, dim=1) - batch.ref_logprobs_B
        losses_B = kto_loss(
            logratios_B, batch.kl_B, batch.label_B, self.beta, self.desirable_weight, self.undesirable_weight
        )
        rewards_B = self.beta * logratios_B.detach()
        good_B, bad_B = present_B & batch.label_B, present_B & ~batch.label_B
        sums = {
            "preference/chosen_reward": (masked_sum(rewards_B, good_B), good_B.sum()),
            "preference/rejected_reward": (masked_sum(rewards_B, bad_B), bad_B.sum()),
            "preference/kl": (masked_sum(batch.kl_B, present_B), present_B.sum()),
        }
        return LossSum(total=masked_sum(losses_B, present_B), sums=sums)


class KTO(Algorithm):
    """KTO on judged completions as they are given."""

    needs = frozenset({"policy", "reference"})
    consumes = "labelled"

    def __init__(self, config: KTOConfig) -> None:
        self.config = config
        self.loss = KTOLoss(config.beta, config.desirable_weight, config.undesirable_weight)
        self.reference_logprobs = ReferenceLogprobs(remember=config.precompute_reference)

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        for step, batch in run.labelled(self.config.batch_size):
            run.finish_step(step, run.policy.train_step(self.prepared(run, batch), self.loss))

    def prepared(self, run: Run, batch: LabelledBatch) -> LabelledBatch:
        """The batch with the reference's log-probs and the KL estimated from the whole of it."""
        others = with_others_completions(batch)
        mask = others.response_mask
        policy_B, ref_B = (
            masked_sum(role.forward(others).logprobs, mask, dim=1) for role in (run.policy, run.reference)
        )
        kl = kto_reference_point(policy_B, ref_B, mask.any(1))
        return replace(batch, ref_logprobs_B=self.reference_logprobs.of(run, batch), kl_B=kl.expand(len(batch)))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """For each good held-out completion, the share of the bad ones with a lower implicit reward; beside it a
        baseline that prefers the longer.
        """
        batch = run.held_out_labelled()
        if batch is None:
            return {}
        policy_B = masked_sum(run.policy.forward(batch).logprobs, batch.response_mask, dim=1)
        rewards_B = self.config.beta * (policy_B - self.reference_logprobs.of(run, batch))
        lengths_B = batch.response_mask.sum(1).float()
        return {
            "accuracy": wins(rewards_B, batch.label_B).tolist(),
            "accuracy_longer_wins": wins(lengths_B, batch.label_B).tolist(),
        }

    def state(self) -> dict[str, float]:
        return self.reference_logprobs.state()

    def restore(self, state: Mapping[str, float]) -> None:
        self.reference_logprobs.restore(state)


def with_others_completions(batch: TokenBatch) -> TokenBatch:
    """Each row's prompt followed by the completion of the row before it, the first by that of the last.

    A completion that would make a row longer than the batch's longest is cut there: that much fits the model.
    """
    width = batch.tokens.shape[1]
    places = torch.arange(width)
    starts_B = batch.response_mask.int().argmax(1)
    givers_B = torch.arange(len(batch)).roll(1)
    # Column t of a new row is column t - (own start) + (giver's start) of the giver's row, from the own start on.
    source = places - starts_B[:, None] + starts_B[givers_B][:, None]
    is_given = (places >= starts_B[:, None]) & (source < width)
    source = source.clamp(0, width - 1)

    def spliced(own: Tensor, given: Tensor) -> Tensor:
        return torch.where(is_given, given.gather(1, source), torch.where(places < starts_B[:, None], own, 0))

    tensors = (batch.tokens, batch.attention_mask, batch.response_mask)
    tokens, attention_mask, response_mask = (spliced(tensor, tensor[givers_B]) for tensor in tensors)
    return TokenBatch(tokens=tokens, attention_mask=attention_mask.bool(), response_mask=response_mask.bool())


def wins(scores_B: Tensor, label_B: Tensor) -> Tensor:
    """Of each good row, the share of bad rows that score lower, ties one half; their mean is the area under the ROC
    curve. Nothing where one of the two is missing.
    """
    gaps = scores_B[label_B][:, None] - scores_B[~label_B][None, :]
    return ((gaps > 0) + 0.5 * (gaps == 0)).mean(1) if gaps.numel() else gaps.flatten()
