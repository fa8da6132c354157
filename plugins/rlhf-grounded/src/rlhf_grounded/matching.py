"""When the words of a passage make a word of a claim true, and how many of a claim's words they do."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_grounded.kinds import members_of
from rlhf_grounded.numerals import agrees
from rlhf_grounded.words import Word

_BEGINNING = 5
"""Letters two words of one family share at least."""


class Bag:
    """The words of a sentence, so that those of a claim are found among them at once."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = tuple(words)
        self.texts = frozenset(word.text for word in words)
        telling = [word for word in words if word.kind in ("name", "word")]
        self._stems = frozenset(word.stem for word in telling)
        self._numbers = [word for word in words if word.kind == "number"]
        self._families: dict[str, list[str]] = {}
        for word in telling:
            self._families.setdefault(word.text[:_BEGINNING], []).append(word.text)

    def holds(self, claimed: Word) -> bool:
        """Whether one of the words makes a claimed one true."""
        if claimed.value is not None:
            return any(
                agrees(claimed.value, claimed.bound, found.value, found.bound)
                for found in self._numbers
                if found.value is not None
            )
        if claimed.stem in self._stems or not self._stems.isdisjoint(members_of(claimed.stem)):
            return True
        return any(_one_family(claimed.text, text) for text in self._families.get(claimed.text[:_BEGINNING], ()))

    def missing(self, claimed: Sequence[Word]) -> list[Word]:
        """The words that nothing makes true. A first name is not missed where the last name stands alone."""
        lost = [word for word in claimed if not self.holds(word)]
        return [word for word in lost if not self._known_by_last_name(word, claimed, lost)]

    def share(self, claimed: Sequence[Word]) -> float:
        """How many of the words are made true, 0 to 1; 0 where there are none."""
        return 1 - len(self.missing(claimed)) / len(claimed) if claimed else 0.0

    def _known_by_last_name(self, word: Word, claimed: Sequence[Word], lost: Sequence[Word]) -> bool:
        place = claimed.index(word) + 1
        last = claimed[place] if place < len(claimed) and word.joins_next else None
        if last is None or last in lost:
            return False
        before = [
            self.words[number - 1].kind if number else "function"
            for number, found in enumerate(self.words)
            if found.stem == last.stem and (found.kind == "name" or number == 0)
        ]
        return bool(before) and "name" not in before


def _one_family(one: str, other: str) -> bool:
    """Australia and Australian, politics and politician: what the list of suffixes does not know."""
    shorter = min(len(one), len(other))
    alike = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    return alike >= max(_BEGINNING, 0.8 * shorter)
