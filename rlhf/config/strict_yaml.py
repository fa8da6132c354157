"""YAML as a recipe may use it: the safe loader, with the bounds and the strictness that a file of somebody else needs.

Refused, with the line: tags that name Python objects, a key given twice (YAML lets the later win), aliases that
multiply into millions of values or hold themselves, values nested deeper than a recipe ever is, the character NUL,
numbers in base 8 or 60, keys that are no words, and files larger than any recipe. Numbers such as `1e-5`, which
YAML 1.1 reads as text, are the schema's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rlhf.errors import ConfigError

MAX_BYTES = 2**24
MAX_DEPTH = 64
MAX_VALUES = 100_000
"""With every alias written out; the largest shipped recipe has a few hundred."""

_TOO_DEEP = f"values are nested more than {MAX_DEPTH} deep"
_OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which says no with `ConfigError`."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name
        self._depth = 0

    def refuse(self, node: yaml.Node, problem: str) -> NoReturn:
        """Raise with the place."""
        raise ConfigError(f"{self.name}, line {node.start_mark.line + 1}: {problem}")

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise ConfigError(f"{self.name}, line {line}: {_TOO_DEEP}")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _Expansion(self).of(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except ValueError as error:  # an integer of thousands of digits
            self.refuse(node, f"{_start(node)} is no value: {error}")
        if isinstance(value, str) and "\0" in value:
            self.refuse(node, "a text holds the character NUL, which no path may and no text needs")
        return value


class _Expansion:
    """How many values, and how deep, once aliases are written out. Each node is looked at once: a bomb costs nothing.

    An alias names what stands before it, so recursion is no deeper than the text's own nesting.
    """

    def __init__(self, loader: _StrictLoader) -> None:
        self._loader = loader
        self._known: dict[yaml.Node, tuple[int, int]] = {}
        self._open: set[yaml.Node] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        if node in self._known:
            return self._known[node]
        if node in self._open:
            self._loader.refuse(node, "a value holds itself, by an alias")
        self._open.add(node)
        inside = [self.of(child) for child in _children(node)]
        self._open.discard(node)
        count = 1 + sum(number for number, _ in inside)
        depth = 1 + max((below for _, below in inside), default=0)
        if count > MAX_VALUES:
            self._loader.refuse(node, f"aliases multiply into more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            self._loader.refuse(node, _TOO_DEEP)
        self._known[node] = count, depth
        return count, depth


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[str | int, Any]:
    seen: set[str | int] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, bool) or not isinstance(key, str | int):  # token ids are keys too
            loader.refuse(key_node, f"a key is a word, given {_start(key_node)}, which YAML reads as {key!r}: quote it")
        if key in seen:
            loader.refuse(key_node, f"key {key!r} is given twice; keep one of them")
        seen.add(key)
    loader.flatten_mapping(node)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


def _number_in_base_ten(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    """YAML 1.1 takes 0777 for 511 and 1:30 for 90, which nobody means."""
    if _OTHER_BASE.fullmatch(node.value):
        loader.refuse(node, f"{_start(node)}: YAML reads such a number in base 8 or 60; write it plainly, or quote it")
    if node.tag == "tag:yaml.org,2002:int":
        return loader.construct_yaml_int(node)
    return loader.construct_yaml_float(node)


def _text(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    """A date stays what was written."""
    return loader.construct_yaml_str(node)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _number_in_base_ten)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _number_in_base_ten)
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _text)


def load_yaml(text: str, name: str) -> Any:
    """The document in `text`; `ConfigError` that starts with `name` and the line for what is not one, or is refused."""
    loader = None
    try:
        loader = _StrictLoader(text, name)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{name}, line {line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml_file(path: Path) -> Any:
    """The document in a file of UTF-8 text."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES // 2**20} MiB, which no recipe is; rows go in files of data"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return load_yaml(text, str(path))


def _start(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a list or a table"
    text = str(node.value)
    return repr(text if len(text) <= 40 else text[:40] + "...")
