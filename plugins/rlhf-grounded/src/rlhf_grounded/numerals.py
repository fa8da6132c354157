"""Numbers as they are written, as values that can be compared: 1,000 and "a thousand", 26th, "1.5 million", 50%."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Bound = Literal["exact", "about", "at least", "at most"]

_SMALL = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
} | {word: 10 * tens for tens, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        1,
    )
}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "dozen": 12.0}
_TIMES = {"once": 1, "twice": 2, "thrice": 3}
_DIGITS = re.compile(r"(\d[\d,]*(?:\.\d+)?)(st|nd|rd|th|s)?%?")
_ABOUT = frozenset("about around approximately roughly nearly almost circa some".split())
_AT_LEAST = (("more", "than"), ("at", "least"), ("over",), ("above",), ("exceeds",), ("exceeding",))
_AT_MOST = (("less", "than"), ("fewer", "than"), ("at", "most"), ("under",), ("below",), ("up", "to"))
_CLOSE = 0.1
"""How far from a value "about" reaches, as a share of it."""


def value_of(word: str) -> float | None:
    """The value of one word (lower case), or None where it is no number."""
    digits = _DIGITS.fullmatch(word)
    if digits:
        return float(digits.group(1).replace(",", ""))
    known = _SMALL.get(word, _ORDINALS.get(word, _TIMES.get(word)))
    if known is not None:
        return float(known)
    tens, dash, ones = word.partition("-")
    if dash and _SMALL.get(tens, 0) >= 20 and 1 <= (_SMALL.get(ones) or _ORDINALS.get(ones) or 0) <= 9:
        return float(_SMALL[tens] + (_SMALL.get(ones) or _ORDINALS[ones]))
    return None


def scale_of(word: str) -> float | None:
    """1e6 for "million", and so on."""
    return _SCALES.get(word)


def bound_before(words: Sequence[str]) -> tuple[Bound, int]:
    """How a number is meant, by the words (lower case) before it, and how many of them say so.

    "more than 400" is met by whatever is above 400.
    """
    for length in (2, 1):
        said = tuple(words[-length:])
        if said in _AT_LEAST:
            return "at least", length
        if said in _AT_MOST:
            return "at most", length
    return ("about", 1) if words and words[-1] in _ABOUT else ("exact", 0)


def agrees(claimed: float, bound: Bound, found: float, found_bound: Bound) -> bool:
    """Whether a number that was found makes a claimed one true."""
    if claimed == found:
        return True
    if bound == "at least":
        return found > claimed and found_bound != "at most"
    if bound == "at most":
        return found < claimed and found_bound != "at least"
    return "about" in (bound, found_bound) and abs(claimed - found) <= _CLOSE * abs(found)
