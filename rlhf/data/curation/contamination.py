"""Rows that hold what an evaluation asks: shared runs of words, as GPT-3's authors looked for them.

Brown et al. 2020, appendix C: a row that shares an n-gram with an item of the evaluation holds it, with n = 13 words.
An item of 8 to 12 words is looked for as a whole; a shorter question counts only where a row asks the same and nothing
else, for "What is the capital of France?" within a longer text says little. N-grams that more than ten items share are
the form the questions come in, and tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.data.curation.wording import Grams, Hashes, word_hashes
from rlhf.data.files import read_rows
from rlhf.data.formats import detect, read_record
from rlhf.data.turns import Fault
from rlhf.errors import DataError

LONGEST = 13
SHORTEST = 8
_COMMON = 10
_QUESTIONS = ("question", "query", "problem", "goal", "turns", "prompt", "instruction", "behavior")
"""Columns that ask, of rows in no known format."""
_TABLE_BITS = 22
_SHIFT = np.uint64(64 - _TABLE_BITS)

Found = tuple[Hashes, NDArray[np.int64]]


@dataclass(frozen=True)
class Overlap:
    """Of a row with an item of an evaluation: where that is, and how many words in a row they share at least."""

    item: str
    num_words: int

    def __str__(self) -> str:
        return (
            f"shares {self.num_words} words in a row with {self.item}"
            if self.num_words
            else f"asks what {self.item} asks"
        )


class EvaluationItems:
    """The n-grams of evaluation sets, to look rows up in."""

    def __init__(self, places: NDArray[np.str_], beginnings: Hashes, grams: dict[int, Found]) -> None:
        self._places = places
        self._beginnings = beginnings
        """The first 8 words of every n-gram: what a row that has none of them need not be looked up for again."""
        self._grams = grams
        """By n, 0 for whole questions: the hashes, sorted, and the item of each."""
        # Nearly every sequence of a row is in no evaluation: one look at a small table says so.
        self._seen = np.zeros(1 << _TABLE_BITS, bool)
        self._seen[beginnings >> _SHIFT] = True

    @classmethod
    def read(cls, paths: Sequence[str]) -> EvaluationItems:
        """Of files in any format; of rows in none, the texts of all columns. Raises `DataError` as `read_rows` does."""
        places: list[str] = []
        found: dict[int, list[tuple[Hashes, int]]] = {}
        beginnings: list[Hashes] = []
        for source in read_rows(paths):
            questions, others = _texts_of(source.values, source.where)
            for text in (*questions, *others):
                words = word_hashes([text])
                n = LONGEST if len(words) >= LONGEST else len(words) if len(words) >= SHORTEST else 0
                if n or (len(words) and text in questions):
                    grams = Grams(words)
                    found.setdefault(n, []).append((np.unique(grams.of(n or len(words))), len(places)))
                    beginnings += [grams.of(SHORTEST)[: len(words) - n + 1]] if n else []
            places.append(source.id)
        if not found:
            raise DataError(f"{', '.join(paths)}: no texts to look for.")
        starts = np.unique(np.concatenate([np.empty(0, np.uint64), *beginnings]))
        return cls(np.array(places), starts, {n: _telling(pairs) for n, pairs in found.items()})

    def find(self, question: str, grams: Grams) -> Overlap | None:
        """The first overlap of a row that asks `question`, of all of whose words the n-grams are given."""
        sizes = []
        if grams.num_words >= SHORTEST:
            starts = grams.of(SHORTEST)
            starts = starts[self._seen[starts >> _SHIFT]]
            if len(_hits(self._beginnings, starts)):
                sizes = [n for n in sorted(self._grams, reverse=True) if 0 < n <= grams.num_words]
        for n in sizes:
            item = _first(self._grams[n], grams.of(n))
            if item is not None:
                return Overlap(str(self._places[item]), n)
        item = _first(self._grams[0], _whole(question)) if 0 in self._grams else None
        return None if item is None else Overlap(str(self._places[item]), 0)

    def save(self, path: Path) -> None:
        """Write them for other processes."""
        arrays: dict[str, Any] = {"places": self._places, "beginnings": self._beginnings}
        for n, (known, items) in self._grams.items():
            arrays |= {f"grams_{n}": known, f"items_{n}": items}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> EvaluationItems:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            sizes = [int(name.removeprefix("grams_")) for name in file.files if name.startswith("grams_")]
            grams = {n: (file[f"grams_{n}"], file[f"items_{n}"]) for n in sizes}
            return cls(file["places"], file["beginnings"], grams)


def _first(known: Found, hashes: Hashes) -> int | None:
    """The item of the first of the hashes that is one of its n-grams."""
    grams, items = known
    places = _hits(grams, hashes)
    return int(items[places[0]]) if len(places) else None


def _hits(known: Hashes, hashes: Hashes) -> NDArray[np.intp]:
    """Places in `known`, which is sorted, of those of the hashes that are there."""
    if not len(known) or not len(hashes):
        return np.empty(0, np.intp)
    places: NDArray[np.intp] = np.searchsorted(known, hashes)
    places[places == len(known)] = 0
    found: NDArray[np.intp] = places[known[places] == hashes]
    return found


def _texts_of(values: dict[str, Any], where: str) -> tuple[Sequence[str], Sequence[str]]:
    """The questions of an item, and its other texts; those of all columns where it is of no known format."""
    try:
        record = read_record(detect(values, where), where, values)
    except (DataError, Fault):
        asked = [text for name, value in values.items() if name.lower() in _QUESTIONS for text in _texts_in(value)]
        return asked, list(_texts_in({n: value for n, value in values.items() if n.lower() not in _QUESTIONS}))
    if record.prompt is None:
        return [], [record.text or ""]
    return [record.prompt.last_user_text], record.ranking.completions if record.ranking else ()


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(inner)


def _whole(text: str) -> Hashes:
    """A short text as one n-gram; none for one that is not short."""
    words = word_hashes([text]) if len(text) < 40 * SHORTEST else np.empty(0, np.uint64)
    return Grams(words).of(len(words)) if len(words) < SHORTEST else words[:0]


def _telling(pairs: Sequence[tuple[Hashes, int]]) -> Found:
    """All n-grams of items, each with its first item, without those of many items."""
    hashes = np.concatenate([grams for grams, _ in pairs])
    items = np.concatenate([np.full(len(grams), item, np.int64) for grams, item in pairs])
    known, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    rare = counts <= _COMMON
    return known[rare], items[first[rare]]
