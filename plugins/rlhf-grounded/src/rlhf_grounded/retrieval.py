"""Finds the passages of the user's documents that a claim may rest on: BM25 (library bm25s) over stems.

With an encoder, passages are ranked by the likeness of their embeddings too, and the two orders are merged by
reciprocal rank fusion (Cormack, Clarke and Buettcher 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rlhf_grounded.documents import Stamp, files_of, passages_of, stamp_of
from rlhf_grounded.embeddings import Encoder
from rlhf_grounded.evidence import Asked, EvidenceError, Passage
from rlhf_grounded.words import content, words_of

_FUSION = 60
"""The constant of reciprocal rank fusion, as in its paper."""
_MERGED = 50
"""Passages of each order that are merged."""


class Index:
    """Passages, and which of them have most in common with a text."""

    def __init__(self, passages: Sequence[Passage], encoder: Encoder | None = None) -> None:
        import bm25s  # type: ignore[import-untyped]

        self.passages = tuple(passages)
        self._encoder = encoder
        self._embedded = encoder.embed([passage.text for passage in self.passages]) if encoder else None
        self._bm25 = bm25s.BM25()
        terms = [_terms(passage.text) for passage in self.passages]
        self._known = frozenset(term for passage in terms for term in passage)
        if self._known:  # bm25s cannot index passages without a single word
            self._bm25.index(terms, show_progress=False)

    def rank(self, text: str, count: int) -> list[int]:
        """Numbers of the best passages, best first, those of one score in the documents' order."""
        if self._encoder is None or self._embedded is None:
            return self._by_words(text, count)
        likeness = self._embedded @ self._encoder.embed([text])[0]
        by_meaning = [int(number) for number in (-likeness).argsort(kind="stable")[:_MERGED]]
        return _merge([self._by_words(text, _MERGED), by_meaning])[:count]

    def _by_words(self, text: str, count: int) -> list[int]:
        known = [term for term in _terms(text) if term in self._known]
        if not known:
            return []
        scores = self._bm25.get_scores(known)
        best = (-scores).argsort(kind="stable")[:count]
        return [int(number) for number in best if scores[number] > 0]


class Documents:
    """Evidence from files. A file that changes after it was read makes rows errors: what they rest on is not known."""

    def __init__(self, paths: Sequence[str], passages: int, passage_words: int, encoder: str | None) -> None:
        self._paths = tuple(paths)
        self._count = passages
        self._files = files_of(self._paths)
        self._stamp = stamp_of(self._files)
        self._index = _indexed(self._stamp, passage_words, encoder)

    def find(self, asked: Sequence[Asked]) -> list[list[Passage] | EvidenceError]:
        changed = self._changed()
        if changed:
            error = f"{changed} changed after it was read; keep documents as they are while a run lasts, or start again"
            return [EvidenceError(error) for _ in asked]
        return [self._best(one.claim.wanted) for one in asked]

    def _best(self, text: str) -> list[Passage]:
        return [self._index.passages[number] for number in self._index.rank(text, self._count)]

    def _changed(self) -> str | None:
        now = stamp_of(self._files)
        return next((old[0] for old, new in zip(self._stamp, now, strict=True) if old != new), None)


@lru_cache(maxsize=8)
def _indexed(stamp: Stamp, passage_words: int, encoder: str | None) -> Index:
    """One index for all graders and rewards of a process that read the same files."""
    passages = passages_of([Path(path) for path, _, _ in stamp], passage_words)
    return Index(passages, Encoder(encoder) if encoder else None)


def _merge(orders: Sequence[Sequence[int]]) -> list[int]:
    worth: dict[int, float] = {}
    for order in orders:
        for place, number in enumerate(order, 1):
            worth[number] = worth.get(number, 0.0) + 1 / (_FUSION + place)
    return sorted(worth, key=lambda number: (-worth[number], number))


def _terms(text: str) -> list[str]:
    return [word.stem if word.value is None else f"{word.value:g}" for word in content(words_of(text))]
