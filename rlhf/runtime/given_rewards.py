"""Rewards given from Python: `rlhf.train(recipe, rewards=[my_function])`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.config.function_options import function_options
from rlhf.errors import ConfigError
from rlhf.plugins import Plugins, PluginSettings, load_plugins
from rlhf.recipe import Recipe, StageConfig
from rlhf.recipe_file import with_reward_files_as_plugins
from rlhf.registry import Entry
from rlhf.runtime.plan import build_algorithm
from rlhf.validation import validated

GivenReward = str | Mapping[str, Any] | Callable[..., Any]
"""A name, a table as in a recipe, in which `type` may also be a function, or a function."""
_OWNER = "given from Python"


def with_rewards(recipe: Recipe, rewards: Sequence[GivenReward]) -> tuple[Recipe, Plugins]:
    """The recipe with these rewards in every stage that samples, and the plugins they are in.

    A function that lives in a file travels by that file. Any other can be called in this process only.
    """
    if isinstance(rewards, str) or not isinstance(rewards, Sequence):
        raise ConfigError(f"rewards: a list is needed, as in rewards=[my_function], given {type(rewards).__name__}")
    tables = [_table(reward) for reward in rewards]
    given = zip(tables, rewards, strict=True)
    functions = ((table, reward.get("type") if isinstance(reward, Mapping) else reward) for table, reward in given)
    loose = {table["type"]: function for table, function in functions if callable(function) and _is_loose(function)}
    if loose and recipe.runtime.type == "ray":
        raise ConfigError(
            f"rewards: {next(iter(loose))!r} is in no file that other processes could read; on Ray give a function of "
            'a file, as in rewards=["my_reward.py:score"], or run in this process: {"runtime.type": "inline"}'
        )
    # Read like a recipe's own, so that names of files become plugins.
    read = with_reward_files_as_plugins(
        {"stages": {"given": {"reward": tables}}, "plugins": recipe.plugins.model_dump()}
    )
    settings = validated(PluginSettings, read["plugins"], "plugins")
    plugins = load_plugins(settings)
    plugins.require_healthy()
    for name, function in loose.items():
        plugins.registry.add(Entry("reward", name, function, None, _OWNER, function_options(function)))
    learning = [name for name, stage in recipe.stages.items() if _learns_from_rewards(stage, plugins)]
    if not learning:
        raise ConfigError(f"rewards: no stage of {recipe.name!r} samples, so none would be asked")
    given_rewards = {"reward": read["stages"]["given"]["reward"]}
    changed = {
        name: validated(StageConfig, recipe.stages[name].model_dump() | given_rewards, f"stages.{name}")
        for name in learning
    }
    return recipe.model_copy(update={"stages": {**recipe.stages, **changed}, "plugins": settings}), plugins


def _table(reward: GivenReward) -> dict[str, Any]:
    if isinstance(reward, str):
        return {"type": reward}
    if isinstance(reward, Mapping):
        named = reward.get("type")
        return dict(reward) | (_table(named) if callable(named) else {})
    if not callable(reward):
        raise ConfigError(f"rewards: a function, a name or a table is needed, given {type(reward).__name__}")
    name = getattr(reward, "__name__", type(reward).__name__).strip("<>")
    if _is_loose(reward):
        return {"type": name, "processes": 0}
    return {"type": f"{inspect.getsourcefile(reward)}:{name}"}


def _is_loose(reward: Callable[..., Any]) -> bool:
    """A function that importing a file would not give: typed in, nested, a lambda, or an object."""
    name = getattr(reward, "__qualname__", "<object>")
    code = getattr(inspect.unwrap(reward), "__code__", None)
    return code is None or not name.isidentifier() or not Path(code.co_filename).is_file()


def _learns_from_rewards(stage: StageConfig, plugins: Plugins) -> bool:
    needs = build_algorithm(stage, plugins).needs
    return "rollout" in needs and "teacher" not in needs
