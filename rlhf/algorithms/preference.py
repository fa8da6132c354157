"""What the methods over rankings share: a loss of gaps between implicit rewards, its loop and how it is measured.

A policy implies a reward of each completion (DPO: `beta log(pi/pi_ref)`), and with it a ranking, which a method's loss
turns towards the given one. K candidates make K(K-1)/2 pairs; a prompt's loss is the mean over them, K = 2 is the
paper's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.functional.masked import masked_mean, masked_sum
from rlhf.functional.preference_loss import mean_over_pairs, ranking_accuracy
from rlhf.protocols import Algorithm, Run
from rlhf.types import LossSum, PolicyOutput, PreferenceBatch


@dataclass(frozen=True)
class PairLoss(ABC):
    """A loss of gaps; a subclass says what is compared and what a gap costs. Divided by the number of prompts."""

    beta: float
    """What is compared, times beta, is the implicit reward."""
    entropy_grad: ClassVar[bool] = False

    @abstractmethod
    def compared(self, logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
        """What a completion is worth to the policy, before beta, `[B, K]`; `logprobs` is `[B*K, T]`."""

    @abstractmethod
    def of_gaps(self, gaps: Tensor) -> Tensor:
        """Loss of pairs whose better completion is worth this much more; any shape."""

    def count(self, batch: PreferenceBatch) -> float:
        """Prompts with at least one pair; blank rows that only even out the ranks do not count."""
        return float((batch.present_BK.sum(1) > 1).sum())

    def __call__(self, output: PolicyOutput, batch: PreferenceBatch) -> LossSum:
        compared_BK = self.compared(output.logprobs, batch)
        losses = mean_over_pairs(compared_BK, batch.present_BK, self.of_gaps)
        rewards_BK = self.beta * compared_BK.detach()
        count = losses.has_pair_B.sum()
        best_B = torch.where(losses.has_pair_B, rewards_BK[:, 0], 0)
        worst_B = torch.where(losses.has_pair_B, worst(rewards_BK, batch.present_BK), 0)
        sums = {
            "preference/accuracy": (ranking_accuracy(rewards_BK, batch.present_BK).mean_B.sum(), count),
            "preference/margin": ((best_B - worst_B).sum(), count),
            "preference/chosen_reward": (best_B.sum(), count),
            "preference/rejected_reward": (worst_B.sum(), count),
        }
        return LossSum(total=losses.mean_B.sum(), sums=sums)


def summed(logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
    """Log-prob of each completion, `[B, K]`."""
    return masked_sum(logprobs, batch.candidates.response_mask, dim=1).view(batch.present_BK.shape)


def averaged(logprobs: Tensor, batch: PreferenceBatch) -> Tensor:
    """Mean log-prob of each completion's tokens, `[B, K]`; 0 where it is blank."""
    return masked_mean(logprobs, batch.candidates.response_mask, dim=1).view(batch.present_BK.shape)


def lengths(batch: PreferenceBatch) -> Tensor:
    """Tokens of each completion, `[B, K]`."""
    return batch.candidates.response_mask.sum(1).view(batch.present_BK.shape)


def worst(values_BK: Tensor, present_BK: Tensor) -> Tensor:
    """Value of each prompt's last present candidate, `[B]`."""
    last_B = present_BK.sum(1).sub(1).clamp_min(0)
    return values_BK.gather(1, last_B.unsqueeze(1)).squeeze(1)


class PreferenceMethod(Algorithm):
    """Trains the policy on rankings as they are given."""

    needs = frozenset({"policy"})
    consumes = "rankings"

    def __init__(self, config: PassesConfig, loss: PairLoss) -> None:
        self.config = config
        self.loss = loss

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        for step, batch in run.rankings(self.config.batch_size):
            run.finish_step(step, run.policy.train_step(self.prepared(run, batch), self.loss))

    def prepared(self, run: Run, batch: PreferenceBatch) -> PreferenceBatch:
        """The batch with whatever the loss asks of it besides the tokens, taken from the whole of it."""
        return batch

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Share of each held-out ranking's pairs that the implicit reward orders rightly, beside a baseline that
        prefers the longer; and by how much it sets the best above the worst.
        """
        batch = run.held_out_rankings()
        if batch is None:
            return {}
        batch = self.prepared(run, batch)
        rewards_BK = self.loss.beta * self.loss.compared(run.policy.forward(batch.inputs).logprobs, batch)
        return {
            "accuracy": ranking_accuracy(rewards_BK, batch.present_BK).mean_B.tolist(),
            "accuracy_longer_wins": ranking_accuracy(lengths(batch).float(), batch.present_BK).mean_B.tolist(),
            "margin": (rewards_BK[:, 0] - worst(rewards_BK, batch.present_BK)).tolist(),
        }
