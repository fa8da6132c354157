"""An answer beside its question alone, in numbers: what it takes up, how it ends, how it is written."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

from rlhf_3h.task import Item
from rlhf_3h.words import content, sentences, tokens

NUM_RELEVANCE, NUM_ENDING, NUM_MANNER = 9, 8, 8
_LONG = 6  # letters of a stem that is seldom shared by chance
_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*\u2022])\s", re.MULTILINE)
_END = re.compile(r"[.!?\u3002\uff01\uff1f:)\]}\"'\u201d`*]\s*$")
_REFUSES = re.compile(r"\b(sorry|cannot|can't|unable|as an ai|i don't know|i'm not sure)\b", re.IGNORECASE)


def relevance(item: Item) -> list[float]:
    """How much of the question the answer takes up: `NUM_RELEVANCE` numbers."""
    asked, said = Counter(content(item.question)), Counter(content(item.answer))
    shared = [stem for stem in asked if stem in said]
    long_asked = [stem for stem in asked if len(stem) >= _LONG]
    long_shared = [stem for stem in long_asked if stem in said]
    first = set(content(next(iter(sentences(item.answer)), "")))
    names = set(re.findall(r"(?<=\s)[A-Z][a-z]+|\d+", item.question))
    return [
        len(shared) / max(1, len(asked)),
        math.log1p(len(shared)),
        len(long_shared) / max(1, len(long_asked)),
        math.log1p(len(long_shared)),
        sum(said[stem] for stem in shared) / max(1, said.total()),
        len(first.intersection(asked)) / max(1, len(first)),
        sum(name in item.answer for name in names) / max(1, len(names)),
        math.log1p(len(asked)),
        math.log1p(said.total()),
    ]


def ending(item: Item) -> list[float]:
    """Whether the answer comes to its end: `NUM_ENDING` numbers."""
    text = item.answer.rstrip()
    last = text.splitlines()[-1] if text else ""
    opened = sum(text.count(left) - text.count(right) for left, right in ("()", "[]", "{}"))
    wanted = [int(n) for n in re.findall(r"\b([2-9]|10)\b", item.question)]
    items = len(_ITEM.findall(text))
    return [
        float(bool(_END.search(text))),
        float(text.endswith((",", ";", "-", " and", " the", " of", " to", " a"))),
        float(text.endswith(":")),
        float(opened > 0),
        float(text.count("```") % 2 + text.count('"') % 2),
        float(bool(wanted) and 0 < items < max(wanted)),
        math.log1p(len(tokens(last))),
        math.log1p(len(tokens(text))),
    ]


def manner(item: Item) -> list[float]:
    """How the answer is written: `NUM_MANNER` numbers."""
    words = tokens(item.answer)
    pairs = list(pairwise(words))
    length = math.log1p(len(words))
    return [
        length,
        length * length,
        math.log1p(len(_ITEM.findall(item.answer))),
        len(set(pairs)) / max(1, len(pairs)),
        float(bool(_REFUSES.search(item.answer[:200]))),
        float(item.answer.rstrip().endswith("?")),
        sum(map(len, words)) / max(1, len(words)),
        float(not words),
    ]
