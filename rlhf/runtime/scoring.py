"""The stage's rewards, costs and monitors, built from the recipe; where they meet graders and the reward model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlhf.config import RewardPart
from rlhf.errors import ConfigError
from rlhf.plugins import Plugins
from rlhf.protocols import Grader, HeadScores, JudgingRole, RewardFn
from rlhf.recipe import StageConfig
from rlhf.rewards.function import FunctionReward
from rlhf.rewards.rubric import Rubric, WeightedReward
from rlhf.runtime.role_models import RoleModels
from rlhf.types import Metrics, Rollout


class StageParts:
    """What rewards and graders may ask for (`rlhf.protocols.Parts`)."""

    def __init__(self, plugins: Plugins, models: RoleModels | None = None) -> None:
        self._plugins = plugins
        self._role_models = models

    def grader(self, name: str, options: Mapping[str, Any] | None = None) -> Grader:
        grader: Grader = self._plugins.registry.build("grader", name, options or {}, self, where=f"grader {name}")
        return grader

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        members = self.model_scores("reward", rollouts)
        sums = [[sum(heads) for heads in zip(*member.values(), strict=True)] for member in members]
        return [sum(scores) / len(sums) for scores in zip(*sums, strict=True)]

    def model_scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        return self._models.scores(role, rollouts)

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        return self._models.step_scores(role, rollouts, separator)

    def model_heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        return self._models.heads(role)

    @property
    def _models(self) -> RoleModels:
        if self._role_models is None:
            raise ConfigError("a grader of an evaluation asked for a reward model, and there is none")
        return self._role_models


class Scorer:
    """All that judges a stage's rollouts."""

    def __init__(self, config: StageConfig, plugins: Plugins, parts: StageParts) -> None:
        self.rewards = build_rubric(config.reward, plugins, parts)
        self.costs = build_rubric(config.cost, plugins, parts, what="cost", otherwise=0.0) if config.cost else None
        self.monitor = Monitor(config.monitor, parts)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with rewards and costs, in order; with an error where one of them failed."""
        scored = self.rewards.score(rollouts)
        if self.costs is None:
            return scored
        judged = zip(scored, self.costs.judge(rollouts), strict=True)
        return [
            replace(rollout, cost=cost.total, cost_parts=cost.parts, error=rollout.error or cost.error)
            for rollout, cost in judged
        ]

    def metrics(self, rollouts: Sequence[Rollout]) -> Metrics:
        """Figures of rollouts: rewards and costs where they were scored, their parts where there are several, and the
        monitors'.
        """
        if any(rollout.reward is None for rollout in rollouts):
            return self.monitor.metrics(rollouts)
        figures = _figures("reward", [r.reward for r in rollouts], self.rewards, [r.reward_parts for r in rollouts])
        if self.costs is not None:
            figures |= _figures("cost", [r.cost for r in rollouts], self.costs, [r.cost_parts for r in rollouts])
        return figures | self.monitor.metrics(rollouts)


def build_rubric(
    rewards: Sequence[RewardPart],
    plugins: Plugins,
    parts: StageParts,
    *,
    what: str = "reward",
    otherwise: float | None = None,
) -> Rubric:
    """Rewards as one; a second one of a type is called TYPE_2."""
    taken: Counter[str] = Counter()
    weighted = []
    for part in rewards:
        taken[part.type] += 1
        count = taken[part.type]
        name = part.type if count == 1 else f"{part.type}_{count}"
        weighted.append(WeightedReward(name, part.weight, _reward(part, plugins, parts, what)))
    return Rubric(weighted, what, otherwise)


def _reward(part: RewardPart, plugins: Plugins, parts: StageParts, where: str) -> RewardFn:
    entry = plugins.registry.get("reward", part.type, where)
    if entry.config is None:
        return FunctionReward(part.type, entry.factory)
    reward: RewardFn = plugins.registry.build("reward", part.type, part.options, parts, where=where)
    return reward


def _figures(
    area: str, totals: Sequence[float | None], rubric: Rubric, parts: Sequence[Mapping[str, float]]
) -> Metrics:
    import torch

    values_B = torch.tensor(totals, dtype=torch.float64)
    figures: Metrics = {f"{area}/mean": float(values_B.mean()), f"{area}/std": float(values_B.std(unbiased=False))}
    if len(rubric.parts) > 1:
        for part in rubric.parts:
            values = [given[part.name] for given in parts if part.name in given]
            if values:
                figures[f"{area}/{part.name}"] = sum(values) / len(values)
    return figures


class Monitor:
    """Graders that watch a run without being trained on; each prompt by the grader of its own axis, or by all."""

    def __init__(self, names: Sequence[str], parts: StageParts) -> None:
        self._graders = [parts.grader(name) for name in names]

    def metrics(self, rollouts: Sequence[Rollout]) -> Metrics:
        """Mean score of each axis, `gold/AXIS`; failed grades are left out."""
        figures: Metrics = {}
        for grader in self._graders:
            mine = [r for r in rollouts if r.prompt.metadata.get("axis", grader.axis) == grader.axis]
            scores = [grade.score for grade in grader.grade(mine) if grade.score is not None]
            if scores:
                figures[f"gold/{grader.axis}"] = sum(scores) / len(scores)
        return figures
