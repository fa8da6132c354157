"""`rlhf algorithms`: the methods, what each learns from and starts, and the paper of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from rlhf.cli.options import PluginOption
from rlhf.cli.terminal import print_table

if TYPE_CHECKING:
    from rlhf.recipe import Recipe
    from rlhf.registry import Registry

_ROLES = ("policy", "teacher", "reference", "reward", "value", "cost_value", "rollout")
_NOTE = "* a model, or any other reward of the recipe: a function, a grader\n"
_WIDTH = 90  # of the column of papers


@dataclass(frozen=True)
class _Form:
    """An algorithm as a shipped recipe uses it; as it is where `recipe` is empty."""

    recipe: str = ""
    paper: str = ""
    options: dict[str, Any] | None = None


def algorithms(plugin: PluginOption = None) -> None:
    """Every algorithm in each form a shipped recipe gives it: what it learns from, what it starts, its paper."""
    from rlhf.plugins import PluginSettings, load_plugins

    plugins = load_plugins(PluginSettings(paths=tuple(plugin or ())))
    registry = plugins.registry
    built_in = {info.name for info in plugins.infos if info.origin == "built-in"}
    owners = {entry.name: entry.owner for entry in registry.entries() if entry.kind == "algorithm"}
    forms, evaluations = _shipped_forms()
    rows, papers = [], []
    for name in registry.names("algorithm"):
        for form in forms.get(name, [_Form()]):
            guest = "" if owners[name] in built_in else owners[name]
            rows.append([name, form.recipe, *_needs(registry, name, form.options), guest])
            papers += [(form.recipe, form.paper)] if form.paper else []
    has_guests = any(row[-1] for row in rows)
    headers = ("algorithm", "recipe", "learns from", "roles", "plugin")
    print_table(headers if has_guests else headers[:-1], rows if has_guests else [row[:-1] for row in rows])
    typer.echo(_NOTE)
    _print_papers("recipe", papers)
    typer.echo()
    _print_papers("without training", evaluations)


def _print_papers(what: str, papers: list[tuple[str, str]]) -> None:
    rows = []
    for recipe, paper in papers:
        parts = paper.split("; ") if len(paper) > _WIDTH else [paper]
        rows += [[recipe if number == 0 else "", part] for number, part in enumerate(parts)]
    print_table((what, "paper"), rows)


def _shipped_forms() -> tuple[dict[str, list[_Form]], list[tuple[str, str]]]:
    """Algorithm -> its forms in the shipped recipes with a paper; and those, with it, that are about answering.

    A recipe is about its last stage. An algorithm that is the last of none stands in the first that has it at all.
    """
    from rlhf.recipe import load_recipe
    from rlhf.recipe_file import read_yaml, shipped_recipes

    found: dict[str, list[_Form]] = {}
    earlier: dict[str, list[_Form]] = {}
    evaluations: list[tuple[str, str]] = []
    for name, path in shipped_recipes().items():
        raw = read_yaml(path)
        if not raw.get("paper"):
            continue
        unset = {key: "none" for key, value in (raw.get("variables") or {}).items() if value is None}
        recipe = load_recipe(path, unset)
        if _is_about_answering(recipe):
            evaluations.append((name, recipe.paper))
            continue
        used = [stage.algorithm for stage in recipe.stages.values()]
        found.setdefault(used[-1].type, []).append(_Form(name, recipe.paper, used[-1].options))
        for part in used[:-1]:
            earlier.setdefault(part.type, [_Form(name, "", part.options)])
    return earlier | found, evaluations


def _is_about_answering(recipe: Recipe) -> bool:
    """Whether the models of its evaluation answer in different ways: best of n, examples in the prompt."""
    sides = (recipe.evaluation.before, recipe.evaluation.after) if recipe.evaluation else ()
    return any(side is not None and (side.best_of > 1 or side.in_context) for side in sides)


def _needs(registry: Registry, name: str, options: dict[str, Any] | None) -> tuple[str, str]:
    """Rows and roles: those of the algorithm with these options, or of its class."""
    from rlhf.errors import ConfigError

    algorithm: Any = registry.get("algorithm", name).factory
    if options is not None or not isinstance(getattr(algorithm, "needs", None), frozenset):
        try:
            algorithm = registry.build("algorithm", name, options or {})
        except ConfigError as error:  # an option without a default: what it starts depends on it
            return "?", str(error)
    roles = [role for role in _ROLES if role in algorithm.needs]
    if algorithm.consumes == "prompts" and "teacher" not in roles:  # it learns from the stage's reward
        roles += ["reward*", "cost*"] if "cost_value" in roles else ["reward*"]
    return algorithm.consumes, ", ".join(roles)
