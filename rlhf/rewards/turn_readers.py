"""Does a function of `completions` read turns, as TRL hands them where the data holds conversations, or texts?

TRL gives lists of turns to every function as soon as the prompts are conversations. Here most functions take texts of
any data, and one that takes `len(completion)` would give the same number to all without a word. So what the function
itself says decides: first the annotation of `completions` (or `prompts`): `list[list[dict[str, str]]]` or `list[str]`.
Where there is none, its code: turns are read by `turn["content"]` or `turn["role"]`, also with `.get`, by the function
or by another of its module that it names. `reply["message"]["content"]`, as services answer, is no turn.
"""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

_KEYS = ("content", "role")
_OF_TURNS = re.compile(r"dict|Mapping|Message", re.IGNORECASE)


def reads_turns(function: Callable[..., Any]) -> bool:
    """Whether it is to be given turns where there are some."""
    plain = _unwrapped(function)
    if plain is None:
        return False
    for name in ("completions", "prompts"):
        annotation = plain.__annotations__.get(name)
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation) if annotation else ""
        if _OF_TURNS.search(text):
            return True
        if "str" in text:
            return False
    return any(_reads_a_turn(code) for member in _of_its_module(plain, set()) for code in _codes(member.__code__))


def _unwrapped(function: Callable[..., Any]) -> FunctionType | None:
    """The function behind decorators, `partial`, methods and objects that are called."""
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    plain = getattr(function, "__func__", function)
    return plain if isinstance(plain, FunctionType) else None


def _of_its_module(function: FunctionType, met: set[FunctionType]) -> Iterator[FunctionType]:
    """The function, and those of its module that it names, and so on."""
    if function in met:
        return
    met.add(function)
    yield function
    for code in _codes(function.__code__):
        for name in code.co_names:
            named = function.__globals__.get(name)
            if isinstance(named, FunctionType) and named.__module__ == function.__module__:
                yield from _of_its_module(named, met)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """With the comprehensions and functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _reads_a_turn(code: CodeType) -> bool:
    steps = list(dis.get_instructions(code))
    for place, step in enumerate(steps):
        if step.opname.startswith("LOAD_CONST") and step.argval in _KEYS:
            by_get = place > 0 and steps[place - 1].argval == "get"
            by_brackets = place + 1 < len(steps) and _is_subscript(steps[place + 1])
            if (by_get or by_brackets) and not _is_of_a_table(steps[: place - 1 if by_get else place]):
                return True
    return False


def _is_of_a_table(before: list[dis.Instruction]) -> bool:
    """Whether what is read from is itself the value of a key."""
    return len(before) > 1 and _is_subscript(before[-1]) and isinstance(before[-2].argval, str)


def _is_subscript(step: dis.Instruction) -> bool:
    return step.opname == "BINARY_SUBSCR" or (step.opname == "BINARY_OP" and step.argrepr == "[]")
