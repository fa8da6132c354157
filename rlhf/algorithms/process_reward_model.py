"""Process reward model: a score for every step of a completion, not only for how it ends.

Lightman et al. 2023 (arXiv:2305.20050), section 2: binary cross entropy at the last token of each step. Labels may be
people's (Uesato et al. 2022, arXiv:2211.14275) or say whether the right end can still be reached (arXiv:2312.08935).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch.nn.functional import logsigmoid

from rlhf.algorithms.passes import PassesConfig
from rlhf.protocols import Algorithm, Run
from rlhf.types import LossSum, StepBatch, StepOutput


class ProcessRewardModelConfig(PassesConfig):
    """Options of `process_reward_model`."""

    separator: str = Field(default="\n", min_length=1)
    """What stands between steps; the reward `process_reward` parts completions by the same."""


@dataclass(frozen=True)
class StepLoss:
    """`-log sigmoid(s)` of a right step, `-log sigmoid(-s)` of a wrong one; divided by the number of steps."""

    entropy_grad: ClassVar[bool] = False

    def count(self, batch: StepBatch) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: StepOutput, batch: StepBatch) -> LossSum:
        ends = batch.response_mask
        scores = torch.where(ends, output.scores, 0)
        losses = torch.where(ends, -logsigmoid(torch.where(batch.labels, scores, -scores)), 0)
        right = ends & ((scores > 0) == batch.labels)
        return LossSum(total=losses.sum(), sums={"reward/accuracy": (right.sum(), ends.sum())})


class ProcessRewardModel(Algorithm):
    """Trains the reward role on completions judged step by step."""

    needs = frozenset({"reward"})
    consumes = "stepwise"

    def __init__(self, config: ProcessRewardModelConfig) -> None:
        self.config = config
        self.loss = StepLoss()

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        for step, batch in run.stepwise(self.config.batch_size, self.config.separator):
            run.finish_step(step, run.reward.train_step(batch, self.loss))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Share of each held-out completion's steps told right from wrong, beside that of calling every step right."""
        batch = run.held_out_stepwise(self.config.separator)
        if batch is None:
            return {}
        output: StepOutput = run.reward.forward(batch)  # type: ignore[assignment]
        ends = batch.response_mask
        right = ends & ((output.scores > 0) == batch.labels)
        return {
            "accuracy": (right.sum(1) / ends.sum(1)).tolist(),
            "accuracy_all_right": ((ends & batch.labels).sum(1) / ends.sum(1)).tolist(),
        }
