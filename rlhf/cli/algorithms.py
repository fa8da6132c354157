"""`rlhf algorithms`: the methods, the paper of each, what each learns from and what it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlhf.cli.options import PluginOption
from rlhf.cli.terminal import print_table

if TYPE_CHECKING:
    from rlhf.registry import Registry

_ROLES = ("policy", "teacher", "reference", "reward", "value", "cost_value", "rollout")
_HEADERS = ("algorithm", "recipe", "learns from", "roles", "plugin", "paper")


def algorithms(plugin: PluginOption = None) -> None:
    """Every algorithm in each form a shipped recipe gives it: what it learns from, what it starts, its paper."""
    from rlhf.plugins import PluginSettings, load_plugins

    registry = load_plugins(PluginSettings(paths=tuple(plugin or ()))).registry
    owners = {entry.name: entry.owner for entry in registry.entries() if entry.kind == "algorithm"}
    recipes = _recipes_of_methods()
    rows = []
    for name in registry.names("algorithm"):
        for recipe, paper, options in recipes.get(name, [("", "", None)]):
            rows.append([name, recipe, *_needs(registry, name, options), owners[name], paper])
    print_table(_HEADERS, rows)


def _recipes_of_methods() -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Algorithm -> (recipe, paper, options) of each shipped recipe that is about it: its last stage, with a paper."""
    from rlhf.recipe import load_recipe
    from rlhf.recipe_file import read_yaml, shipped_recipes

    found: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for name, path in shipped_recipes().items():
        raw = read_yaml(path)
        if not raw.get("paper"):
            continue
        unset = {key: "none" for key, value in (raw.get("variables") or {}).items() if value is None}
        recipe = load_recipe(path, unset)
        algorithm = list(recipe.stages.values())[-1].algorithm
        found.setdefault(algorithm.type, []).append((name, recipe.paper, algorithm.options))
    return found


def _needs(registry: Registry, name: str, options: dict[str, Any] | None) -> tuple[str, str]:
    """Rows and roles: those of the algorithm with these options, or of its class."""
    from rlhf.errors import ConfigError

    algorithm: Any = registry.get("algorithm", name).factory
    if options is not None or not isinstance(getattr(algorithm, "needs", None), frozenset):
        try:
            algorithm = registry.build("algorithm", name, options or {})
        except ConfigError as error:  # an option without a default: what it starts depends on it
            return "?", str(error)
    return algorithm.consumes, ", ".join(role for role in _ROLES if role in algorithm.needs)
