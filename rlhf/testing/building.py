"""Rewards and graders out of the registry, outside of any run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from rlhf.errors import ConfigError
from rlhf.protocols import Grader, HeadScores, JudgingRole, RewardFn
from rlhf.registry import Entry, Registry
from rlhf.rewards.function import FunctionReward
from rlhf.testing.verdicts import GraderJudge, Judge, RewardJudge
from rlhf.types import Rollout

_ALWAYS_THERE = {"prompts", "completions", "messages", "reference", "token_ids", "finish_reason"}
"""What a plain function may ask for whatever the data's columns are (`rlhf.rewards.function`)."""


class NeedsModel(ConfigError):
    """A part asked for the stage's reward or cost model, and there is no stage."""


class LoneParts:
    """`rlhf.protocols.Parts` where there is no run: other graders, but no models."""

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

    def _refuse(self, role: str) -> NoReturn:
        raise NeedsModel(f"it asks for the stage's {role} model, which only a run has")


def build_judge(registry: Registry, entry: Entry, options: Mapping[str, Any]) -> Judge:
    """The reward or grader of this entry with these options.

    Raises `ConfigError` for options it does not take, and whatever its factory raises.
    """
    parts = LoneParts(registry)
    if entry.kind == "grader":
        return GraderJudge(registry.build("grader", entry.name, options, parts, where=entry.name))
    if entry.config is None:
        registry.check("reward", entry.name, options, entry.name)
        return function_judge(entry.name, entry.factory)
    reward: RewardFn = registry.build("reward", entry.name, options, parts, where=entry.name)
    return RewardJudge(reward, getattr(reward, "columns", ()))


def function_judge(name: str, function: Callable[..., Any]) -> Judge:
    """A plain function as a reward: the one place where this package adapts it."""
    reward = FunctionReward(name, function)
    known: Sequence[str] | None = getattr(reward, "columns", None)
    columns = _columns_of(function) if known is None else known
    return RewardJudge(reward, columns, reads_columns=bool(columns))


def _columns_of(function: Callable[..., Any]) -> list[str]:
    """Its parameters without a default that are columns of the data."""
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [p.name for p in named if p.default is p.empty and p.name not in _ALWAYS_THERE]
