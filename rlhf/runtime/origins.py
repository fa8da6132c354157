"""Where each value of a resolved recipe comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlhf.recipe import Recipe, find_recipe
from rlhf.recipe_file import read_yaml, shipped_recipes, table_at

DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """A leaf of the resolved recipe."""

    key: str
    """Dotted, as an override names it."""
    value: Any
    origin: str
    """`default`, `recipe`, `shipped recipe NAME`, `defaults:` of either, `override`, or `variable NAME`."""


def settings_of(recipe: Recipe, source: str, overrides: Mapping[str, Any]) -> list[Setting]:
    """All leaves, in the recipe's order."""
    path = find_recipe(source)
    raw = read_yaml(path)
    shipped = {file: name for name, file in shipped_recipes().items()}
    name = f"shipped recipe {shipped[path]}" if path in shipped else "recipe"
    stages = list(recipe.stages)
    single = stages[0] if "stages" not in raw else None
    given = _Given(raw, dict(overrides), name, stages, single)
    resolved = _flat(recipe.model_dump(mode="json"))
    return [Setting(given.short(key), value, given.origin(key)) for key, value in resolved]


@dataclass(frozen=True)
class _Given:
    """What the file and the command line say."""

    raw: dict[str, Any]
    overrides: dict[str, Any]
    name: str
    stages: list[str]
    single: str | None
    """The stage of a recipe without `stages:`."""

    def short(self, key: str) -> str:
        """Without `stages.`, as a command line may write it."""
        prefix = f"stages.{self.single}." if self.single else "stages."
        return key.removeprefix(prefix)

    def origin(self, key: str) -> str:
        keys = key.split(".")
        if any(self._covers(override, key) for override in self.overrides):
            return "override"
        inner = keys[2:] if keys[0] == "stages" else []
        at = self.raw if self.single else table_at(self.raw, "stages").get(keys[1] if inner else "", {})
        found = _at(at, inner) if inner else _at(self.raw, keys)
        if found is not None:
            return self._said(found, self.name)
        found = _at(table_at(self.raw, "defaults"), inner) if inner else None
        return DEFAULT if found is None else self._said(found, f"defaults: of the {self.name}")

    def _covers(self, override: str, key: str) -> bool:
        first = override.partition(".")[0]
        if first in self.stages:
            override = f"stages.{override}"
        elif self.single and first not in Recipe.model_fields:
            override = f"stages.{self.single}.{override}"
        elif first == "defaults":
            return False
        return key == override or key.startswith(f"{override}.")

    def _said(self, found: Any, where: str) -> str:
        """A value written as `${name}` is the variable's."""
        if isinstance(found, str) and found.startswith("${"):
            variable = found.strip("${}")
            given = " (override)" if {variable, f"variables.{variable}"} & self.overrides.keys() else ""
            return f"variable {variable}{given}"
        return where


def _at(table: Any, keys: list[str]) -> Any:
    """The value under these keys; where a short form stands (`model: PATH`), that; None where there is nothing."""
    for key in keys:
        if isinstance(table, Mapping) and "${" not in str(table.get(key)):
            table = table.get(key)
        elif isinstance(table, Mapping):
            return table.get(key)
        else:
            return table if isinstance(table, str) and key in ("type", "path") else None
    return table


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted path."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
