"""Plain numbers as people write them: `1,234.50`, `$18`, `-3/4`, `72%`. Exact, and in time linear in the text."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

_CURRENCY = "$€£¥₹"
_NUMBER = re.compile(
    rf"""
    (?: (?<![0-9A-Za-z_)\]}}.]) (?P<minus>[-−]) )?  # 10-3 holds no -3
    \\? [{_CURRENCY}]? (?P<second>(?<=[{_CURRENCY}])[-−])?  # -$5, $-5 and the \$ of LaTeX
    (?<![0-9A-Za-z_])  # not the 2 of H2O
    (?P<number>
        (?: [0-9]{{1,3}} (?:,[0-9]{{2,3}}){{0,8}} ,[0-9]{{3}} (?![0-9]) | [0-9]+ ) (?: \.[0-9]+ )?
        | \.[0-9]+
    )
    (?! [0-9] | [eE][+-]?[0-9])  # 72e5 is not 72
    (?: [ ]? / [ ]? (?P<divisor>[0-9]+) (?![0-9.]) )?
    """,
    re.VERBOSE,
)
_MAX_DIGITS = 64
"""Longer ones answer no question of a school, and reading them takes time quadratic in their length."""


def numbers(text: str) -> Iterator[Fraction | None]:
    """Every number of the text, in order; None for one that has no value (1/0) or too many digits to be meant."""
    for match in _NUMBER.finditer(text):
        yield _value(match)


def last_number(text: str) -> Fraction | None:
    """The last number of the text; None where there is none, or it has no value."""
    last = deque(_NUMBER.finditer(text), maxlen=1)
    return _value(last[0]) if last else None


def number_at(text: str, start: int) -> Fraction | None:
    """The number that begins at `start`; None where none does, or it has no value."""
    match = _NUMBER.match(text, start)
    return _value(match) if match is not None else None


def number(text: str) -> Fraction | None:
    """The text as a number, a percent sign or full stop after it aside; None where it is anything else."""
    text = text.strip().rstrip(".").removesuffix("%").removesuffix("\\").rstrip()
    match = _NUMBER.fullmatch(text)
    return _value(match) if match is not None else None


def _value(match: re.Match[str]) -> Fraction | None:
    digits, divisor = match["number"].replace(",", ""), match["divisor"] or "1"
    if max(len(digits), len(divisor)) > _MAX_DIGITS or not int(divisor):
        return None
    value = Fraction(digits) / int(divisor)
    return -value if match["minus"] or match["second"] else value
