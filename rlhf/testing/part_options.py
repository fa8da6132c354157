"""A part's options in words, and the checks that they can be written in a recipe and sent to a worker."""

from __future__ import annotations

import collections.abc
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhf.config import RESERVED_OPTIONS, Part, PartConfig
from rlhf.errors import ConfigError
from rlhf.registry import Entry
from rlhf.testing.findings import Check, Skipped, fail
from rlhf.validation import validated


@dataclass(frozen=True)
class Option:
    """An option as a writer of recipes sees it."""

    name: str
    type: str
    default: str  # "required" where there is none
    doc: str


def options_of(config: type[BaseModel] | None) -> list[Option]:
    """The options of a part, in the order they are declared."""
    fields = config.model_fields.items() if config is not None else ()
    return [
        Option(name, type_text(field.annotation), default_text(field), " ".join((field.description or "").split()))
        for name, field in fields
    ]


def table_text(table: type[BaseModel]) -> str:
    """An option that is itself a table, or a part."""
    return "a part" if table is Part else f"table ({', '.join(table.model_fields)})"


def type_text(annotation: Any, of_table: Callable[[type[BaseModel]], str] = table_text) -> str:
    """`number`, `"ray" or "inline"`, `list of text`: a type in the words of YAML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    texts = [type_text(argument, of_table) for argument in arguments if origin not in (Literal, Annotated)]
    if origin is Annotated:
        return type_text(arguments[0], of_table)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(texts)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)} {texts[0]}"
    if origin in (tuple, list, set, frozenset, collections.abc.Sequence):
        return f"list of {texts[0]}"
    if origin in (dict, collections.abc.Mapping):
        return f"table of {texts[1]} by {texts[0]}"
    if annotation is Any:
        return "anything"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_table(annotation)
    name: str = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "NoneType": "null"}.get(name, name)


def default_text(field: FieldInfo) -> str:
    """The default as YAML would have it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Part):
        return default.type
    if isinstance(default, BaseModel):
        return "its own defaults"
    if default is None or isinstance(default, bool):
        return "null" if default is None else str(default).lower()
    if isinstance(default, tuple | list | set | frozenset):
        return f"[{', '.join(map(str, default))}]"
    return f'"{repr(default)[1:-1]}"' if isinstance(default, str) else str(default)


# --- checks ----------------------------------------------------------------------------------------------------------


def option_checks(entry: Entry, given: Mapping[str, Any]) -> list[Check]:
    """Checks of the options alone; the part is not built."""
    if entry.config is None:
        return []
    checks: list[Check] = [
        ("options", partial(_options, entry)),
        ("default options", partial(_defaults, entry.name, entry.config, given)),
    ]
    if not missing_options(entry.config, given):
        checks.append(("options travel", partial(_travel, entry.name, entry.config, given)))
    return checks


def missing_options(config: type[BaseModel] | None, given: Mapping[str, Any]) -> list[str]:
    """Options without a default that were not given."""
    fields = config.model_fields if config is not None else {}
    return [name for name, field in fields.items() if field.is_required() and name not in given]


def _options(entry: Entry) -> str:
    """A class of the right kind, typed options, and no name the recipe has taken."""
    config = entry.config
    if config is None or not issubclass(config, PartConfig):
        fail(f"its config class {getattr(config, '__name__', config)} is no rlhf.PartConfig")
    if config.model_config.get("extra") != "forbid" or not config.model_config.get("frozen"):
        fail(f"{config.__name__} changes model_config: options stay frozen, and unknown ones refused")
    for name, field in config.model_fields.items():
        if entry.kind in ("reward", "grader") and name in (RESERVED_OPTIONS if entry.kind == "reward" else {"type"}):
            fail(f"option {name!r} is a key of the recipe's own table and would never arrive; rename it")
        if field.annotation is Any:
            fail(f"option {name!r} has the type Any: what is given cannot be checked")
    silent = [name for name, field in config.model_fields.items() if not field.description]
    return f"{len(config.model_fields)} options" + (f", without a docstring: {', '.join(silent)}" if silent else "")


def _defaults(name: str, config: type[BaseModel], given: Mapping[str, Any]) -> str:
    """`type: NAME` alone is enough, or it is said what is not."""
    missing = missing_options(config, given)
    if missing:
        words = " ".join(f"{name}.{option}=VALUE" for option in missing)
        raise Skipped(f"needs {' and '.join(map(repr, missing))}: add {words} to the command")
    _checked(name, config, given)
    for option, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if option not in given and not field.is_required():
            _require_valid_default(name, config, given, option, default)
    return ""


def _checked(name: str, config: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    """The options; where none were given and the part says which it wants, that is no fault of the part's."""
    try:
        return validated(config, given, name)
    except ConfigError as error:
        if given:
            raise
        raise Skipped(f"needs options: {error}") from None


def _require_valid_default(
    name: str, config: type[BaseModel], given: Mapping[str, Any], option: str, default: Any
) -> None:
    """Pydantic takes a default unseen: `words: int = "many"` would fail in whoever writes it down."""
    value = default.model_dump() if isinstance(default, BaseModel) else default
    try:
        validated(config, {**given, option: value}, name)
    except ConfigError as error:
        fail(f"the default of {option!r} is not one it accepts: {error}")


def _travel(name: str, config: type[BaseModel], given: Mapping[str, Any]) -> str:
    """To a worker go the options as plain data, and the name of the class that checks them."""
    module, attribute = sys.modules.get(config.__module__), config.__qualname__
    if getattr(module, attribute, None) is not config:
        fail(f"class {attribute} cannot be imported from {config.__module__}; define it at the top of its module")
    built = _checked(name, config, given)
    again = config.model_validate_json(built.model_dump_json(warnings=False))
    if again != built:
        fail(f"written as JSON and read back, {built!r} becomes {again!r}")
    return ""
