"""A reward of a recipe, built: a plain function adapted, or a part with options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rlhf.config import RESERVED_OPTIONS, RewardPart
from rlhf.config.function_options import FunctionOptions, reserved_parameters
from rlhf.errors import ConfigError
from rlhf.protocols import Grader, HeadScores, JudgingRole, Parts, RewardFn
from rlhf.registry import Entry, Registry
from rlhf.rewards.function import FunctionReward
from rlhf.types import Rollout

JUDGES = ("rlhf.pocket.registration", "rlhf.rewards.registration")
"""Built-ins that a reward's process loads: those that judge."""


class AsksForModels(ConfigError):
    """A reward wants a model of the stage where there is none."""


class PlainParts:
    """What rewards and graders may ask for where no model is: other graders."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def grader(self, name: str, options: Mapping[str, Any] | None = None) -> Grader:
        grader: Grader = self._registry.build("grader", name, options or {}, self, where=f"grader {name}")
        return grader

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        self._refuse("reward")

    def model_scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        self._refuse(role)

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        self._refuse(role)

    def model_heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        self._refuse(role)

    @staticmethod
    def _refuse(role: JudgingRole) -> NoReturn:
        raise AsksForModels(
            f"the stage's {role} model cannot be asked from here; a reward that asks it needs `processes: 0` beside it"
        )


def build_reward(part: RewardPart, registry: Registry, parts: Parts, where: str = "reward") -> RewardFn:
    """The reward `part` names. `where` is the key of the recipe that names it."""
    entry = registry.get("reward", part.type, where)
    if entry.config is None:
        return _function(part, entry, registry, where)
    reward: RewardFn = registry.build("reward", part.type, part.options, parts, where=where)
    return reward


def _function(part: RewardPart, entry: Entry, registry: Registry, where: str) -> FunctionReward:
    """A plain function, with the options the recipe has for it."""
    taken = reserved_parameters(entry.factory) & part.model_fields_set
    if taken:
        raise ConfigError(
            f"{where}: {min(taken)!r} is a recipe's own key for every reward, so the parameter of that name of "
            f"{part.type!r} never gets it; rename the parameter"
        )
    checked = registry.check("reward", part.type, part.options, where, RESERVED_OPTIONS)
    return FunctionReward(
        part.type,
        entry.factory,
        timeout=part.timeout,
        concurrency=part.concurrency,
        options=checked.given() if isinstance(checked, FunctionOptions) else None,
    )
