"""The tests of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rlhf.types import Prompt
from rlhf_code.extract import program_of

Layout = Literal["tests", "humaneval"]
COLUMNS: dict[Layout, tuple[str, ...]] = {"tests": ("tests",), "humaneval": ("test", "entry_point")}


class UnusableTests(Exception):
    """A row whose tests cannot be read; nothing is known about its program."""


@dataclass(frozen=True)
class Pair:
    """A script is given `input` on standard input and must print `output`."""

    input: str
    output: str

    def passes(self, printed: bytes) -> bool:
        """Equal but for blanks at the ends of lines and empty lines at the end."""
        return _comparable(printed.decode(errors="replace")) == _comparable(self.output)


@dataclass(frozen=True)
class Asserts:
    """Python code that tests a program's functions, after `setup`.

    With an `entry_point` each of `tests` defines `check(candidate)`, which is called with the program's function of
    that name.
    """

    tests: tuple[str, ...]
    setup: str = ""
    entry_point: str | None = None


def tests_of(prompt: Prompt, layout: Layout) -> Asserts | tuple[Pair, ...]:
    """What the row's program is to pass; `UnusableTests` says what is wrong with it."""
    row = prompt.metadata
    for name in COLUMNS[layout]:
        if not row.get(name):
            raise UnusableTests(f"column {name!r} is empty or missing in row {prompt.id!r}")
    if layout == "humaneval":
        return Asserts((_text(row, "test", prompt),), _setup_of(prompt), _text(row, "entry_point", prompt))
    tests = row["tests"]
    items: list[Any] = [*tests] if isinstance(tests, list | tuple) else [tests]
    if items and all(isinstance(item, str) for item in items):
        return Asserts(tuple(items), _text(row, "setup", prompt))
    if items and all(isinstance(item, Mapping) and {"input", "output"} <= item.keys() for item in items):
        return tuple(Pair(str(item["input"]), str(item["output"])) for item in items)
    raise UnusableTests(
        f"column 'tests' of row {prompt.id!r} must hold Python code, a list of it, or a list of {{input, output}}, "
        f"and holds {str(tests)[:80]!r}"
    )


def _setup_of(prompt: Prompt) -> str:
    """What HumanEval's tests lean on beside the candidate: functions its prompt defines, never those of the program."""
    if prompt.metadata.get("setup"):
        return _text(prompt.metadata, "setup", prompt)
    question = prompt.last_user_text
    return program_of(question, unfenced=True) or ""


def _text(row: Mapping[str, Any], name: str, prompt: Prompt) -> str:
    value = row.get(name) or ""
    if not isinstance(value, str):
        raise UnusableTests(f"column {name!r} of row {prompt.id!r} must hold text, and holds {str(value)[:80]!r}")
    return value


def _comparable(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
