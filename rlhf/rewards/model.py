"""The stage's reward or cost model as a reward: heads weighed, members of an ensemble reduced to one score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.errors import ConfigError, nearest
from rlhf.functional.ensemble import Reduction, reduce_members
from rlhf.protocols import HeadScores, JudgingRole, Parts
from rlhf.types import Rollout, Score


class ModelRewardConfig(PartConfig):
    """Options of the rewards `reward_model` and `cost_model`; the weights are the stage's key of the same name."""

    heads: dict[str, float] = Field(default_factory=dict)
    """Weights of the heads, where the model has several; those not named weigh 0, and without any all weigh 1."""
    reduce: Reduction = "mean"
    """One score of an ensemble's: the `mean`, the `min`, or the mean less `coef` times the members' spread."""
    coef: float = Field(default=0.5, ge=0)
    """Price of the spread, for `mean_minus_std` and `mean_minus_variance` (arXiv:2310.02743)."""


class RewardModelReward:
    """The trained reward model's score of the whole conversation."""

    role: JudgingRole = "reward"

    def __init__(self, config: ModelRewardConfig, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        if config.heads:
            for known in parts.model_heads(self.role):
                _require_heads(config.heads, known, self.role)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        import torch

        members = [self._weighed(scores) for scores in self.parts.model_scores(self.role, rollouts)]
        reduced_B = reduce_members(torch.tensor(members, dtype=torch.float64), self.config.reduce, self.config.coef)
        return [*reduced_B.tolist()]

    def _weighed(self, scores: HeadScores) -> list[float]:
        """Of one member, the weighted sum of its heads."""
        weights = self.config.heads or dict.fromkeys(scores, 1.0)
        columns = [[weight * score for score in scores[head]] for head, weight in weights.items()]
        return [sum(row) for row in zip(*columns, strict=True)]


class CostModelReward(RewardModelReward):
    """The trained cost model's score: above 0 where it takes the answer to be unacceptable."""

    role: JudgingRole = "cost"


class ProcessRewardConfig(PartConfig):
    """Options of `process_reward`; the weights are the stage's `reward_model`, a `process_reward_model`."""

    over: Literal["min", "mean", "last"] = "min"
    """A completion is worth its worst step, the mean of its steps, or the last one."""
    separator: str = Field(default="\n", min_length=1)
    """What stands between steps."""


class ProcessReward:
    """How probable it is that every step is right, by the least probable of them, or by their mean, or by the last."""

    def __init__(self, config: ProcessRewardConfig, parts: Parts) -> None:
        self.config = config
        self.parts = parts

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        members = self.parts.step_scores("reward", rollouts, self.config.separator)
        return [
            Score(value=fmean(map(self._worth, scores)))
            if all(scores)
            else Score(error="too long for the reward model to judge")
            for scores in zip(*members, strict=True)
        ]

    def _worth(self, scores: Sequence[float]) -> float:
        """Of the steps' scores."""
        probabilities = [1 / (1 + math.exp(-max(-700.0, score))) for score in scores]
        if self.config.over == "last":
            return probabilities[-1]
        return min(probabilities) if self.config.over == "min" else fmean(probabilities)


def _require_heads(weights: Mapping[str, float], known: Sequence[str], role: str) -> None:
    for head in weights:
        if head not in known:
            raise ConfigError(
                f"reward {role}_model: heads names {head!r}, and the model has {', '.join(known)}."
                f"{nearest(head, known)}"
            )
