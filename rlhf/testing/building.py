"""Rewards and graders out of the registry, outside of any run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlhf.config import RewardPart
from rlhf.registry import Entry, Registry
from rlhf.rewards.building import PlainParts, build_reward
from rlhf.rewards.function import FunctionReward
from rlhf.testing.verdicts import GraderJudge, Judge, RewardJudge
from rlhf.validation import validated


def build_judge(registry: Registry, entry: Entry, options: Mapping[str, Any]) -> Judge:
    """The reward or grader of this entry with these options.

    Raises `ConfigError` for options it does not take, and whatever its factory raises; `AsksForModels` for a part that
    wants a model of a stage.
    """
    parts = PlainParts(registry)
    if entry.kind == "grader":
        return GraderJudge(registry.build("grader", entry.name, options, parts, where=entry.name))
    part = validated(RewardPart, {"type": entry.name, **options}, entry.name)
    reward = build_reward(part, registry, parts, entry.name)
    columns = getattr(reward, "columns", ())
    return RewardJudge(reward, columns, reads_columns=entry.config is None and bool(columns))


def function_judge(name: str, function: Callable[..., Any]) -> Judge:
    """A plain function that is registered nowhere."""
    reward = FunctionReward(name, function)
    return RewardJudge(reward, reward.columns, reads_columns=bool(reward.columns))
