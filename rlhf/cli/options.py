"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe (`rlhf recipes list`).")
]
OverrideArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value ...]", help="Changes to the recipe, as in algorithm.kl_coef=0.1."),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE", help="A one-file plugin, FILE.py or FILE.py:FUNCTION; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def read_overrides(recipe: str, words: Iterable[str] | None, plugin_files: Sequence[str] | None) -> dict[str, Any]:
    """`key=value` words as a table, with the plugin files added to those of the recipe."""
    from rlhf.recipe_file import parse_override

    overrides = dict(parse_override(word) for word in words or ())
    if plugin_files:
        named = overrides.get("plugins.paths", _plugins_of(recipe))
        overrides["plugins.paths"] = [*named, *map(_absolute, plugin_files)]
    return overrides


def _plugins_of(recipe: str) -> list[Any]:
    from rlhf.recipe import find_recipe
    from rlhf.recipe_file import read_yaml

    settings = read_yaml(find_recipe(recipe)).get("plugins")
    paths = settings.get("paths") if isinstance(settings, dict) else None
    return paths if isinstance(paths, list) else []


def _absolute(spec: str) -> str:
    """A file of the command line lies in the working folder, one of the recipe beside the recipe."""
    file, separator, function = spec.partition(".py:")
    return f"{Path(file).absolute()}{separator}{function}" if separator else os.fspath(Path(spec).absolute())
