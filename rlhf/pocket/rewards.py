"""The gold score as a reward: for debugging an algorithm, and as the ceiling a learned reward is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.config import PartConfig
from rlhf.pocket.graders import gold_score
from rlhf.protocols import Parts
from rlhf.types import Rollout


class GoldRewardConfig(PartConfig):
    """Options of the reward `pocket_gold`: none."""


class GoldReward:
    """The exact grade of each rollout on its prompt's own axis; None for prompts that are not of the pocket data."""

    def __init__(self, config: GoldRewardConfig, parts: Parts) -> None:
        self.config = config

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [
            gold_score(rollout.prompt, rollout.completion.text) if "content" in rollout.prompt.metadata else None
            for rollout in rollouts
        ]
