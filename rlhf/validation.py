"""Pydantic's findings as one line a user can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rlhf.errors import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 200
"""Characters of a wrong value that an error repeats."""


def validated(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """`data` as an instance of `model`, or a `ConfigError` that starts with `where` (a path in the recipe)."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(_first_finding(model, error, where)) from None


def _first_finding(model: type[BaseModel], error: ValidationError, where: str) -> str:
    findings = error.errors(include_url=False)
    # An unknown key explains a missing one ("kl_coeff" for "kl_coef"), so it comes first.
    finding = next((f for f in findings if f["type"] == "extra_forbidden"), findings[0])
    steps = [str(step) for step in finding["loc"] if step != "[key]"]
    path = ".".join([where, *steps]) if where else ".".join(steps)
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, finding["loc"][:-1])
        key = str(finding["loc"][-1])
        return f"{path}: unknown key.{nearest(key, known)} Known keys: {', '.join(sorted(known))}."
    if finding["type"] == "missing":
        return f"{path}: required, and not given."
    message = finding["msg"].removeprefix("Value error, ")
    given = "" if isinstance(finding["input"], dict | BaseModel) else f" (given: {_shown(finding['input'])})"
    if finding["type"] == "string_type" and isinstance(finding["input"], bool):
        given += ": YAML reads yes, no, on and off so; quote the word"
    at = f"{path}: " if path else ""
    return f"{at}{message[0].lower()}{message[1:].removesuffix('.')}{given}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the nested model that `loc` leads to; unions and containers are looked into."""
    current: type[BaseModel] = model
    for step in loc:
        field = current.model_fields.get(str(step))
        if field is None:
            continue  # an index, a dict key or the tag of a union
        nested = _nested_model(field.annotation)
        if nested is None:
            return []
        current = nested
    return list(current.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _nested_model(argument)
        if found is not None:
            return found
    return None
