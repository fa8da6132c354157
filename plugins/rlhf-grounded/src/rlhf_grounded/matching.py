"""When a word of a passage makes a word of a claim true, and how many of a claim's words a passage holds."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_grounded.kinds import is_kind_of
from rlhf_grounded.numerals import agrees
from rlhf_grounded.words import Word


def same(claimed: Word, found: Word) -> bool:
    """Whether a word that was found makes a claimed one true."""
    if claimed.value is not None or found.value is not None:
        if claimed.value is None or found.value is None:
            return False
        return agrees(claimed.value, claimed.bound, found.value, found.bound)
    if found.kind in ("function", "negation"):
        return False
    if claimed.stem == found.stem or is_kind_of(found.stem, claimed.stem):
        return True
    return _share_a_beginning(claimed.text, found.text)


def held(word: Word, found: Sequence[Word]) -> bool:
    """Whether any of the words makes this one true."""
    return any(same(word, other) for other in found)


def missing(words: Sequence[Word], found: Sequence[Word]) -> list[Word]:
    """The words that nothing makes true. A first name is not missed where the passage has just the last name."""
    lost = [word for word in words if not held(word, found)]
    return [word for word in lost if not _known_by_last_name(word, words, lost, found)]


def share(words: Sequence[Word], found: Sequence[Word]) -> float:
    """How many of the words are made true, 0 to 1; 0 where there are none."""
    return 1 - len(missing(words, found)) / len(words) if words else 0.0


def _known_by_last_name(word: Word, words: Sequence[Word], lost: Sequence[Word], found: Sequence[Word]) -> bool:
    place = words.index(word) + 1
    last = words[place] if place < len(words) else None
    if word.kind != "name" or last is None or last.kind != "name" or last in lost or not word.joins_next:
        return False
    places = [number for number, other in enumerate(found) if same(last, other)]
    return any(number == 0 or found[number - 1].kind != "name" for number in places)


def _share_a_beginning(one: str, other: str) -> bool:
    """Australia and Australian, politics and politician: what the list of suffixes does not know."""
    shorter = min(len(one), len(other))
    alike = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    return alike >= max(5, 0.75 * shorter)
