"""`countdown`: make a target from given numbers with + - * / (TinyZero, github.com/Jiayi-Pan/TinyZero)."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from pydantic import Field

from rlhf import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_math.answers import after_thinking, last_tagged
from rlhf_math.references import BadReferenceError

_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "[": "(", "]": ")"})
_ARITHMETIC = re.compile(r"[0-9+\-*/() ]+")
_BULLET = re.compile(r"^ *(?:[-+] +|\*[* ]*)?")
_MAX_LENGTH, _MAX_SIDES = 300, 8
"""Characters of an expression, which bound its depth, and sides of an equation that are looked at."""

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class CountdownConfig(PartConfig):
    """Options of `countdown`."""

    numbers: str = "nums"
    """Column with the list of whole numbers."""
    target: str = "target"
    """Column with the whole number to make."""
    use_all: bool = True
    """Each number must be used exactly once; if false, at most once."""
    format_score: float = Field(default=0.0, ge=0, le=1)
    """Worth of a wrong answer that is at least arithmetic (TinyZero gives 0.1)."""


class Countdown:
    """1 where the expression uses the numbers as it may and makes the target exactly, else 0 or `format_score`.

    The expression is what the last `<answer>` holds, or where no such tag is, what stands in the last line that has a
    "="; of an equation it is the first side that computes something. It is parsed, never run: whole numbers, + - * /,
    brackets and signs. Part `answered`: such an expression was found.
    """

    def __init__(self, config: CountdownConfig, parts: Parts) -> None:
        self.config = config
        self.columns = (config.numbers, config.target)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        columns = rollout.prompt.metadata
        if columns.get(self.config.numbers) is None or columns.get(self.config.target) is None:
            return Score()
        try:
            numbers = _whole_numbers(columns[self.config.numbers], self.config.numbers)
            target = _whole_number(columns[self.config.target], self.config.target)
        except BadReferenceError as error:
            return Score(error=str(error))
        expression = _answer(after_thinking(rollout.completion.text))
        if expression is None:
            return Score(value=0.0, parts={"answered": 0.0})
        right = self._uses_its_numbers(expression, numbers) and _value(expression) == target
        return Score(value=1.0 if right else self.config.format_score, parts={"answered": 1.0})

    def _uses_its_numbers(self, expression: ast.expr, numbers: list[int]) -> bool:
        used = Counter(node.value for node in ast.walk(expression) if isinstance(node, ast.Constant))
        return used == Counter(numbers) if self.config.use_all else used <= Counter(numbers)


def _whole_number(value: Any, column: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        raise BadReferenceError(f"column {column!r} must hold whole numbers, given {value!r:.80}") from None


def _whole_numbers(values: Any, column: str) -> list[int]:
    try:
        if isinstance(values, str):
            raise TypeError
        return [_whole_number(value, column) for value in values]
    except TypeError:
        raise BadReferenceError(f"column {column!r} must hold a list of whole numbers, given {values!r:.80}") from None


def _answer(text: str) -> ast.expr | None:
    """The expression a completion answers with, or None where there is none."""
    tagged = last_tagged(text)
    if tagged is not None:
        return _first_computed(tagged.translate(_SPELLINGS).split("=", _MAX_SIDES))
    line = next((line for line in reversed(text.splitlines()) if "=" in line), "")
    return _first_computed([_arithmetic_end(side) for side in line.translate(_SPELLINGS).split("=", _MAX_SIDES)])


def _arithmetic_end(text: str) -> str:
    """`15 * (10 + 42)` of "So the answer is **15 * (10 + 42)**", or of a line that begins with a bullet."""
    end = text[len(text.rstrip("0123456789+-*/() ")) :]
    return _BULLET.sub("", end).rstrip("* ")


def _first_computed(sides: Sequence[str]) -> ast.expr | None:
    """Of the sides of an equation the first that computes something, else the first that is a number."""
    found = [tree for side in sides if (tree := _parsed(side.strip())) is not None]
    return next((tree for tree in found if isinstance(tree, ast.BinOp)), found[0] if found else None)


def _parsed(text: str) -> ast.expr | None:
    """The expression, or None where the text is not arithmetic of whole numbers."""
    if len(text) > _MAX_LENGTH or not _ARITHMETIC.fullmatch(text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: brackets within brackets
        return None
    return tree if all(map(_is_arithmetic, ast.walk(tree))) else None


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATIONS
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    return isinstance(node, ast.UnaryOp | ast.UAdd | ast.USub | ast.operator)


def _value(node: ast.expr) -> Fraction | None:
    """What the expression makes, exactly; None where it divides by zero."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand)
        return -value if value is not None and isinstance(node.op, ast.USub) else value
    assert isinstance(node, ast.BinOp), "_parsed lets no other node pass"
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None or (isinstance(node.op, ast.Div) and not right):
        return None
    return _OPERATIONS[type(node.op)](left, right)
