"""Numbers as people write them, read exactly: `-1,234.50`, `1.234,5`, `.5`, `6e23`, `85%`, `١٢`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 400
"""Characters of the longest number that is read; longer ones, and exponents beyond it, are no answer to anything."""

# No-break, thin and narrow no-break spaces group digits (ISO 80000-1); a plain one may part two numbers.
_SPACES = "\u00a0\u2009\u202f"
_GROUPER = {".": ",", ",": "."}
# A sign is one where it does not stand between two operands: "is -5", but "7-5", "x-5" and "(1)-5".
_SIGN = r"(?:(?<![\dA-Za-z)\]}%])[-+\u2212])?"
_TAIL = r"(?:[eE][-+\u2212]?\d{1,4}+(?!\.?\d))?(?:\s?%)?"


@dataclass(frozen=True)
class Number:
    """Its exact value, and whether a percent sign follows it; a value of None is a number too long to be read."""

    value: Fraction | None
    is_percent: bool


def numbers_in(text: str, decimal: str = ".") -> Iterator[Number]:
    """Every number of the text, in order. With `decimal` "." a comma groups thousands, with "," a full stop does."""
    for found in _PATTERNS[decimal].finditer(text):
        yield _read(found.group(), decimal)


def _pattern(decimal: str) -> re.Pattern[str]:
    point = re.escape(decimal)
    group = f"[{_GROUPER[decimal]}{_SPACES}]"
    # Possessive digits keep it linear in the text.
    grouped = rf"\d{{1,3}}(?:{group}\d{{3}}(?!\d))+"
    whole = rf"(?:(?<!\d){grouped}|\d++)(?:{point}\d++)?"
    return re.compile(rf"{_SIGN}(?:{whole}|(?<!\d){point}\d++){_TAIL}")


_PATTERNS = {decimal: _pattern(decimal) for decimal in _GROUPER}


def _read(written: str, decimal: str) -> Number:
    is_percent = written.endswith("%")
    digits = written.removesuffix("%").strip()
    for letter in _SPACES + _GROUPER[decimal]:
        digits = digits.replace(letter, "")
    digits = digits.replace("\u2212", "-").replace(decimal, ".").lower()
    exponent = digits.partition("e")[2]
    if len(digits) > LONGEST or (exponent and abs(int(exponent)) > LONGEST):
        return Number(None, is_percent)
    return Number(Fraction(digits), is_percent)
