"""Texts as arrays of word hashes, and the hashes of their n-grams: what duplicates and contamination are found by.

Case, punctuation and spacing do not count. Scripts without spaces (Chinese, Japanese, Thai) have a word a letter.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_KNOWN_WORDS = 1_000_000
"""Hashes remembered in a process, about 100 MB of them at worst."""

# An n-gram's hash is a polynomial in an odd number modulo 2**64, which has an inverse there: so the hashes of all
# n-grams, of any n, come from one running sum (Karp & Rabin 1987).
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_BREAK = np.uint64(0xD6E8FEB86659FD93)
"""Stands between texts, so that no n-gram of one is like an n-gram of two."""


class _WordHashes(dict[str, int]):
    """A word's hash, worked out once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = self[word] = int.from_bytes(digest, "little")
        return value


_HASHES = _WordHashes()


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def word_hashes(texts: Sequence[str]) -> Hashes:
    """One hash a word of all the texts, 64-bit, with a break between texts."""
    found: list[Hashes] = []
    for text in texts:
        words = words_of(text)
        if words:
            found += [np.fromiter(map(_HASHES.__getitem__, words), np.uint64, len(words)), np.array([_BREAK])]
    return np.concatenate(found[:-1]) if found else np.empty(0, np.uint64)


class Grams:
    """The n-grams of a row of word hashes, for any n."""

    def __init__(self, words: Hashes) -> None:
        self.num_words = len(words)
        powers, inverses = _powers(1 << max(10, len(words).bit_length()))
        self._inverses = inverses
        self._sums = np.zeros(len(words) + 1, np.uint64)
        np.cumsum(words * powers[: len(words)], out=self._sums[1:])

    def of(self, n: int) -> Hashes:
        """Hashes of the n-grams in order; of the whole where it has fewer words, and none where it has no words."""
        n = min(n, self.num_words)
        if n == 0:
            return np.empty(0, np.uint64)
        return (self._sums[n:] - self._sums[:-n]) * self._inverses[: self.num_words - n + 1]


def distinct_grams(texts: Sequence[str], n: int) -> Hashes:
    """The different n-grams of texts, sorted."""
    return np.unique(Grams(word_hashes(texts)).of(n))


def jaccard(one: Hashes, other: Hashes) -> float:
    """Shared n-grams among all of two sorted sets; 1 for two empty ones."""
    if not len(one) and not len(other):
        return 1.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def mixed(values: Hashes) -> Hashes:
    """Bits spread evenly (the end of SplitMix64, Steele et al. 2014): n-grams that share words have hashes that are
    different, and related.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_POWERS: dict[int, tuple[Hashes, Hashes]] = {}
"""By how many there are, always a power of two."""


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse, from the zeroth on."""
    if count not in _POWERS:
        both = []
        for base in (_BASE, _INVERSE):
            factors = np.full(count, base, np.uint64)
            factors[0] = 1
            both.append(np.multiply.accumulate(factors))
        _POWERS[count] = (both[0], both[1])
    return _POWERS[count]
