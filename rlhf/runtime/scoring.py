"""The stage's rewards and monitors, built from the recipe; where they meet graders and the reward model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rlhf.plugins import Plugins
from rlhf.protocols import Grader, RewardFn
from rlhf.recipe import RewardPart, StageConfig
from rlhf.rewards.function import FunctionReward
from rlhf.rewards.rubric import Rubric, WeightedReward
from rlhf.types import Metrics, Rollout


class StageParts:
    """What rewards and graders may ask for (`rlhf.protocols.Parts`)."""

    def __init__(self, plugins: Plugins, score: Callable[[Sequence[Rollout]], list[float]]) -> None:
        self._plugins = plugins
        self._score = score

    def grader(self, name: str) -> Grader:
        grader: Grader = self._plugins.registry.build("grader", name, {}, self)
        return grader

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        return self._score(rollouts)


def build_rubric(config: StageConfig, plugins: Plugins, parts: StageParts) -> Rubric:
    """The stage's rewards as one; a second one of a type is called TYPE_2."""
    taken: Counter[str] = Counter()
    weighted = []
    for part in config.reward:
        taken[part.type] += 1
        count = taken[part.type]
        name = part.type if count == 1 else f"{part.type}_{count}"
        weighted.append(WeightedReward(name, part.weight, _reward(part, plugins, parts)))
    return Rubric(weighted)


def _reward(part: RewardPart, plugins: Plugins, parts: StageParts) -> RewardFn:
    entry = plugins.registry.get("reward", part.type, "reward")
    if entry.config is None:
        return FunctionReward(part.type, entry.factory)
    reward: RewardFn = plugins.registry.build("reward", part.type, part.options, parts, where="reward")
    return reward


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
