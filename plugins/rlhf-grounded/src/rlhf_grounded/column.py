"""Evidence in the row itself: a column of the data with a text, or a list of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rlhf.types import Rollout
from rlhf_grounded.claims import Claim
from rlhf_grounded.evidence import Asked, EvidenceError, Passage
from rlhf_grounded.passages import cut
from rlhf_grounded.retrieval import Index


class Column:
    """Passages of the row's own evidence: all of it where that is little, else those nearest to the claim."""

    def __init__(self, name: str, passages: int, passage_words: int) -> None:
        self._name = name
        self._count = passages
        self._longest = passage_words

    def find(self, asked: Sequence[Asked]) -> list[list[Passage] | EvidenceError]:
        return [self._passages(one.claim, one.rollout) for one in asked]

    def _passages(self, claim: Claim, rollout: Rollout) -> list[Passage] | EvidenceError:
        prompt = rollout.prompt
        value = prompt.reference if self._name == "reference" else prompt.metadata.get(self._name)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            given = "nothing" if value is None else type(value).__name__
            return EvidenceError(f"column {self._name!r} must hold a text or a list of texts, given {given}")
        if not any(text.strip() for text in texts):
            return EvidenceError(f"column {self._name!r} is empty")
        found = _cut(tuple(texts), self._name, self._longest)
        if len(found) <= self._count:
            return list(found)
        return [found[number] for number in _index(found).rank(claim.wanted, self._count)]


@lru_cache(maxsize=256)
def _cut(texts: tuple[str, ...], column: str, longest: int) -> tuple[Passage, ...]:
    found: list[Passage] = []
    for number, text in enumerate(texts):
        source = f"column {column}" if len(texts) == 1 else f"column {column}[{number}]"
        short = len(text.split()) <= longest
        found.extend([Passage(text, source)] if short else cut(text, source, longest))
    return tuple(passage for passage in found if passage.text.strip())


@lru_cache(maxsize=256)
def _index(passages: tuple[Passage, ...]) -> Index:
    return Index(passages)
