"""Writes hooks.md, recipes.md and data.md from the code. `make docs` runs it; a test says when they are stale."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhf.cli.hooks import hook_reference
from rlhf.config import Part
from rlhf.data.formats import FORMATS
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.recipe import Recipe, StageConfig
from rlhf.registry import KINDS, Entry
from rlhf.testing.part_options import type_text

DOCS = Path(__file__).resolve().parent
_NOTE = "<!-- Made by docs/generate.py (`make docs`). Do not edit: change the docstrings it is made from. -->\n"

_RECIPES_INTRO = """\
A recipe is one stage (the keys of [a stage](#stageconfig) beside those of [the run](#recipe)), or `stages:` by name in
running order, where a later stage may say `model: stage:NAME`. `defaults:` is merged into every stage. `variables:` are
used as `${name}` and set with `name=VALUE`; one that is empty must be given. A table with `type` names a part, whose
own keys are under [Parts](#parts). Short forms: `algorithm: ppo` is `algorithm: {type: ppo}`, so for data, engine
and `rollout.engine`; `model: PATH` is `model: {path: PATH}`; `reward: NAME` is a list of one.
"""

_WHERE = {
    "algorithm": "Named in `algorithm`.",
    "dataset": "Named in `data`.",
    "reward": "Named in `reward`, each with a `weight` (1.0 where absent).",
    "grader": "Named in `monitor`, and by evaluation suites.",
    "train_engine": "Named in `engine`; `auto` chooses.",
    "rollout_engine": "Named in `rollout.engine`; `auto` chooses, and takes no options.",
    "tracker": "Named in `trackers`.",
}

_DATA_INTRO = """\
`data: {type: files, path: rows.jsonl}` reads JSON lines, JSON, CSV, Parquet, plain text or a hub set. The format is
told from the columns of the first row, in the order below; `format: NAME` says it instead. Where your columns have
other names, `columns: {prompt: question}` gives the format's name and then yours. `a | b` means either column, square
brackets hold those that may be absent. Columns that no format uses reach rewards and graders by their names, and
`reference` is kept as the right answer. Rows of the commonest formats:

```json
{"messages": [{"role": "user", "content": "Where is Rome?"}, {"role": "assistant", "content": "In Italy."}]}
{"prompt": "Where is Rome?", "completion": "In Italy."}
{"prompt": "Where is Rome?", "chosen": "In Italy.", "rejected": "No idea."}
{"prompt": "Where is Rome?", "completions": ["In Italy.", "In Europe.", "No idea."]}
{"prompt": "Where is Rome?", "completion": "No idea.", "label": false}
{"prompt": "Where is Rome?", "reference": "In Italy."}
{"text": "Rome is a city in Italy."}
```

Text that is given as turns is put through the model's chat template; plain text is taken as it stands, or as one turn
of the user with `chat: true`.
"""

_KINDS_OF_ROW = {
    "texts": "a document",
    "prompts": "a question the model answers itself; also for `distill` with `on_policy: 1`",
    "demonstrations": "an answer to imitate",
    "rankings": "answers to one question, best first; a pair is a ranking of two",
    "labelled": "one answer, judged good or bad as a whole",
    "stepwise": "one answer, judged step by step",
}


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    return {DOCS / "hooks.md": _hooks_page(), DOCS / "recipes.md": _recipes_page(), DOCS / "data.md": _data_page()}


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
    rows = []
    for name, field in model.model_fields.items():
        type_ = type_text(field.annotation, _table_link)
        rows.append(f"| `{name}` | {type_} | {_default_text(field)} | {_cell(field.description or '')} |")
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _first_sentences(doc: str | None) -> str:
    """A docstring as a paragraph."""
    return f"{_linked(' '.join(doc.split()))}\n\n" if doc else ""


def _table_link(table: type[BaseModel]) -> str:
    """Tables have sections of their own on the page."""
    return "a [part](#parts)" if table is Part else f"[{table.__name__}](#{table.__name__.lower()})"


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
    return _linked(" ".join(text.split()).replace("|", "\\|"))


def _linked(text: str) -> str:
    return re.sub(r"docs/(\w+\.md)", r"[docs/\1](\1)", text)


# --- data ------------------------------------------------------------------------------------------------------------


def _data_page() -> str:
    methods = _methods_by_kind()
    kinds = [f"| {kind} | {what} | {', '.join(methods[kind])} |" for kind, what in _KINDS_OF_ROW.items()]
    formats = [f"| `{known.name}` | {_cell(known.columns)} | {', '.join(known.serves)} |" for known in FORMATS]
    return "\n".join([
        "# Rows of data\n", _NOTE, _DATA_INTRO,
        "## Formats\n", "| format | columns | kinds of row it gives |", "|---|---|---|", *formats, "",
        "## Kinds of row, and who takes them\n", "| kind | what it is | methods |", "|---|---|---|", *kinds, "",
    ])  # fmt: skip


def _methods_by_kind() -> dict[str, list[str]]:
    registry = load_plugins(PluginSettings()).registry
    methods: dict[str, list[str]] = {kind: [] for kind in _KINDS_OF_ROW}
    for name in registry.names("algorithm"):
        consumes = getattr(registry.get("algorithm", name).factory, "consumes", None)
        methods[consumes or registry.build("algorithm", name, {}).consumes].append(f"`{name}`")
    return methods


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
