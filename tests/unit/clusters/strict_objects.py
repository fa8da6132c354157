"""Objects of Kubernetes read strictly: a field its types do not have is an error, where Kubernetes may just drop it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec


def mistakes(data: Any, expected: Any, path: str = "") -> list[str]:
    """What in `data` is not of the type `expected`, each with where it stands."""
    found = list(_unknown_fields(data, expected, path))
    try:
        msgspec.convert(data, expected)
    except msgspec.ValidationError as error:
        found.append(f"{path}: {error}")
    return found


def _unknown_fields(data: Any, expected: Any, path: str) -> Iterator[str]:
    for kind in _alternatives(expected):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(data, dict):
            hints = typing.get_type_hints(kind)
            of_name = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
            for key, value in data.items():
                if key in of_name:
                    yield from _unknown_fields(value, hints[of_name[key]], f"{path}.{key}")
                else:
                    yield f"{path}.{key}: {kind.__name__} has no such field"
        elif typing.get_origin(kind) is list and isinstance(data, list):
            for index, item in enumerate(data):
                yield from _unknown_fields(item, typing.get_args(kind)[0], f"{path}[{index}]")


def _alternatives(expected: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    return typing.get_args(expected) if is_union else (expected,)
