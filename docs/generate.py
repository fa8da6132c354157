"""Writes docs/hooks.md and docs/recipes.md from the code. `make docs` runs it; a test says when they are stale."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhf.cli.hooks import hook_reference
from rlhf.config import Part
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.recipe import Recipe, StageConfig
from rlhf.registry import KINDS, Entry

DOCS = Path(__file__).resolve().parent
_NOTE = "<!-- Made by docs/generate.py (`make docs`). Do not edit: change the docstrings it is made from. -->\n"

_RECIPES_INTRO = """\
A recipe is one stage (the keys of [a stage](#stageconfig) beside those of [the run](#recipe)), or `stages:` by name in
running order, where a later stage may say `model: stage:NAME`. `defaults:` is merged into every stage. `variables:` are
used as `${name}` and set with `name=VALUE`; one that is empty must be given. A table with `type` names a part, whose
own keys are under [Parts](#parts). Short forms: `algorithm: ppo` is `algorithm: {type: ppo}`, so for data and engine;
`model: PATH` is `model: {path: PATH}`; `reward: NAME` is a list of one.
"""

_WHERE = {
    "algorithm": "Named in `algorithm`.",
    "dataset": "Named in `data`.",
    "reward": "Named in `reward`, each with a `weight` (1.0 where absent).",
    "grader": "Named in `monitor`, and by evaluation suites.",
    "train_engine": "Named in `engine`; `auto` chooses.",
    "rollout_engine": "Named in `rollout.engine`.",
    "tracker": "Named in `trackers`.",
}


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    return {DOCS / "hooks.md": _hooks_page(), DOCS / "recipes.md": _recipes_page()}


# --- hooks -----------------------------------------------------------------------------------------------------------


def _hooks_page() -> str:
    from rlhf import hookspecs

    intro = (hookspecs.__doc__ or "").strip()
    sections = [f"## `{hook.name}`\n\n```python\n{hook.signature}\n```\n\n{hook.doc}\n" for hook in hook_reference()]
    return "\n".join(["# Hooks\n", _NOTE, f"{intro}\n", *sections])


# --- recipes ---------------------------------------------------------------------------------------------------------


def _recipes_page() -> str:
    intro = [
        "# Recipe keys\n",
        _NOTE,
        _RECIPES_INTRO,
    ]
    sections = [_model_section(model, "##") for model in _models(Recipe)]
    return "\n".join([*intro, *sections, "## Parts\n", *_part_sections()])


def _models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """The run, a stage, then every nested section in the order it is met."""
    found: list[type[BaseModel]] = [root, StageConfig]
    for model in found:  # grows while it is read
        for field in model.model_fields.values():
            found.extend(m for m in _models_in(field.annotation) if m not in found)
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is not Part:
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _part_sections() -> Iterator[str]:
    plugins = load_plugins(PluginSettings())
    own = {info.name for info in plugins.infos if info.origin == "built-in"}
    entries = [entry for entry in plugins.registry.entries() if entry.owner in own]
    for kind in KINDS:
        yield f"### {kind.replace('_', ' ').capitalize()}s\n\n{_WHERE[kind]}\n"
        for entry in entries:
            if entry.kind == kind:
                yield _part_section(entry)


def _part_section(entry: Entry) -> str:
    doc = _first_sentences(entry.factory.__doc__)
    table = _field_table(entry.config) if entry.config is not None and entry.config.model_fields else "No options.\n"
    fields = entry.config.model_fields.values() if entry.config is not None else ()
    nested = [_model_section(model, "#####") for field in fields for model in _models_in(field.annotation)]
    return "\n".join([f"#### `{entry.name}`\n\n{doc}{table}", *nested])


def _model_section(model: type[BaseModel], level: str) -> str:
    return f"{level} {model.__name__}\n\n{_first_sentences(model.__doc__)}{_field_table(model)}"


def _field_table(model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_type_text(field.annotation)} | {_default_text(field)} | {_cell(field.description or '')} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _first_sentences(doc: str | None) -> str:
    """A docstring as a paragraph."""
    return f"{' '.join(doc.split())}\n\n" if doc else ""


def _type_text(annotation: Any) -> str:
    """`float`, `"ray"` or `"inline"`, list of text: a type as a writer of YAML sees it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_text(argument) for argument in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)} {_type_text(arguments[0])}"
    if origin in (tuple, list):
        return f"list of {_type_text(arguments[0])}"
    if origin in (dict, collections.abc.Mapping):
        return f"table of {_type_text(arguments[1])} by {_type_text(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a [part](#parts)" if annotation is Part else f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    name: str = annotation.__name__
    return {"str": "text", "NoneType": "null"}.get(name, name)


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Part):
        return f"`{default.type}`"
    if isinstance(default, BaseModel) or default in ({}, ()):
        return ""
    text = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    if isinstance(default, tuple):
        text = f"[{', '.join(map(str, default))}]"
    text = f'"{repr(text)[1:-1]}"' if not text.isprintable() or text.isspace() else text
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
