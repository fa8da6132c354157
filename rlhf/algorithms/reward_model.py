"""Reward model from rankings: Bradley-Terry over all pairs of K ranked completions, or Plackett-Luce over the list.

Ouyang et al. 2022 (arXiv:2203.02155), equation 1: -1/C(K,2) E[log sigmoid(r(x, y_w) - r(x, y_l))], each completion run
through the model once however many pairs it is in. The listwise form is of Plackett 1975; both agree for K = 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator

from rlhf.algorithms.passes import PassesConfig
from rlhf.functional.plackett_luce import plackett_luce_loss
from rlhf.functional.preference_loss import centring_loss, ranking_accuracy, ranking_loss
from rlhf.protocols import Algorithm, Run
from rlhf.types import HeadedRewardOutput, LossSum, PreferenceBatch, RewardOutput


class RewardModelConfig(PassesConfig):
    """Options of `reward_model`. More than one pass over the data tends to overfit (InstructGPT, appendix C.2)."""

    loss: Literal["pairs", "plackett_luce"] = "pairs"
    """Of rankings of more than two: the mean over all `pairs`, or over the choices of best, next best, and so on."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels taken to be wrong, which keeps gaps between scores finite (arXiv:2401.06080)."""
    centring: float = Field(default=0.0, ge=0)
    """Weight of the squared sum of a pair's scores, which keeps scores around zero (arXiv:2312.09244)."""
    heads: tuple[str, ...] = ()
    """Names of the model's heads (helpful, honest, harmless, say), each trained on the rankings of its name alone; one
    head, trained on all, where empty.
    """
    head_column: str = "axis"
    """The column of a row that names the head it trains."""

    @field_validator("heads")
    @classmethod
    def _several_or_none(cls, heads: tuple[str, ...]) -> tuple[str, ...]:
        if len(heads) == 1 or len(set(heads)) < len(heads):
            raise ValueError("two heads or more are needed, each of a name of its own; leave heads out for one")
        return heads


@dataclass(frozen=True)
class RankingLoss:
    """Negative log-likelihood of the rankings, plus centring; divided by the number of prompts."""

    centring: float = 0.0
    kind: Literal["pairs", "plackett_luce"] = "pairs"
    label_smoothing: float = 0.0
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: PreferenceBatch) -> float:
        """Rankings with at least one pair; blank rows that only even out the ranks do not count."""
        return float((batch.present_BK.sum(1) > 1).sum())

    def __call__(self, output: RewardOutput, batch: PreferenceBatch) -> LossSum:
        present_BK = batch.present_BK
        scores_BK = own_scores(output, batch)
        loss = ranking_loss if self.kind == "pairs" else plackett_luce_loss
        loss_B = loss(scores_BK, present_BK, batch.margin_B, self.label_smoothing).mean_B
        if self.centring:
            loss_B = loss_B + self.centring * centring_loss(scores_BK, present_BK).mean_B
        detached_BK = scores_BK.detach()
        accuracy = ranking_accuracy(detached_BK, present_BK)
        spread_B = detached_BK[:, 0] - _worst(detached_BK, present_BK)
        count = accuracy.has_pair_B.sum()
        sums = {
            "reward/accuracy": (accuracy.mean_B.sum(), count),
            "reward/margin": (torch.where(accuracy.has_pair_B, spread_B, 0.0).sum(), count),
        }
        return LossSum(total=loss_B.sum(), sums=sums)


def own_scores(output: RewardOutput, batch: PreferenceBatch) -> torch.Tensor:
    """Scores `[B, K]` by the head that each ranking trains; the only one, or the sum, where rankings name none."""
    shape = batch.present_BK.shape
    if batch.head_B is None or not isinstance(output, HeadedRewardOutput):
        return output.scores_B.view(shape)
    head_N1 = batch.head_B.repeat_interleave(shape[1]).unsqueeze(1)
    return output.heads_BH.gather(1, head_N1).view(shape)


def _worst(scores_BK: torch.Tensor, present_BK: torch.Tensor) -> torch.Tensor:
    """Score of each prompt's last present candidate, `[B]`."""
    last_B = present_BK.sum(1).sub(1).clamp_min(0)
    return scores_BK.gather(1, last_B.unsqueeze(1)).squeeze(1)


class RewardModel(Algorithm):
    """Trains the reward role on rankings."""

    needs = frozenset({"reward"})
    consumes = "rankings"

    def __init__(self, config: RewardModelConfig) -> None:
        self.config = config
        self.heads, self.head_column = config.heads, config.head_column
        self.loss = RankingLoss(config.centring, config.loss, config.label_smoothing)

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        for step, batch in run.rankings(self.config.batch_size):
            run.finish_step(step, run.reward.train_step(batch, self.loss))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Share of each held-out ranking's pairs in the right order, beside the baseline that prefers the longer; of a
        model with several heads also by head.
        """
        batch = run.held_out_rankings()
        if batch is None:
            return {}
        scores_BK = own_scores(run.reward.forward(batch.inputs), batch)
        lengths_BK = batch.inputs.response_mask.sum(1).view(scores_BK.shape).to(scores_BK.dtype)
        accuracy_B = ranking_accuracy(scores_BK, batch.present_BK).mean_B
        figures = {
            "accuracy": accuracy_B.tolist(),
            "accuracy_longer_wins": ranking_accuracy(lengths_BK, batch.present_BK).mean_B.tolist(),
        }
        for number, name in enumerate(self.heads):
            figures[f"accuracy_{name}"] = accuracy_B[batch.head_B == number].tolist()
        return figures
