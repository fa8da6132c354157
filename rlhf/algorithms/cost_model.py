"""Cost model from completions judged one by one: above 0 where a completion is not acceptable, below where it is.

The sign term of Safe RLHF's cost loss (Dai et al. 2023, arXiv:2310.12773): `-log sigmoid(C)` for what is not acceptable
and `-log sigmoid(-C)` for what is. It alone gives the score a zero that means something, as a limit needs; the order of
two completions, which a ranking tells, is what `reward_model` learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.algorithms.passes import PassesConfig
from rlhf.protocols import Algorithm, Run
from rlhf.types import LabelledBatch, LossSum, RewardOutput


class CostModelConfig(PassesConfig):
    """Options of `cost_model`."""


@dataclass(frozen=True)
class SignLoss:
    """Binary cross entropy of the cost's sign; divided by the number of completions."""

    entropy_grad: ClassVar[bool] = False

    def count(self, batch: LabelledBatch) -> float:
        """Completions; blank rows that only even out the ranks do not count."""
        return float(_present(batch).sum())

    def __call__(self, output: RewardOutput, batch: LabelledBatch) -> LossSum:
        present_B = _present(batch)
        costs_B = torch.where(present_B, output.scores_B, 0)
        loss_B = torch.where(present_B, -logsigmoid(torch.where(batch.label_B, -costs_B, costs_B)), 0)
        right_B = present_B & agrees(costs_B.detach(), batch.label_B)
        return LossSum(total=loss_B.sum(), sums={"reward/accuracy": (right_B.sum(), present_B.sum())})


def agrees(costs_B: Tensor, label_B: Tensor) -> Tensor:
    """Whether the sign of each cost is that of its label, bool `[B]`; 0 takes no side."""
    return torch.where(label_B, costs_B < 0, costs_B > 0)


def _present(batch: LabelledBatch) -> Tensor:
    return batch.attention_mask.any(1)


class CostModel(Algorithm):
    """Trains the reward role as a cost model."""

    needs = frozenset({"reward"})
    consumes = "labelled"

    def __init__(self, config: CostModelConfig) -> None:
        self.config = config
        self.loss = SignLoss()

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        for step, batch in run.labelled(self.config.batch_size):
            run.finish_step(step, run.reward.train_step(batch, self.loss))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Share of held-out completions whose cost is on the right side of 0."""
        batch = run.held_out_labelled()
        if batch is None:
            return {}
        return {"accuracy": agrees(run.reward.forward(batch).scores_B, batch.label_B).float().tolist()}
