"""MinHash signatures in bands: rows that are alike share a band's key with a probability that is known beforehand.

Broder 1997 (MinHash); Indyk & Motwani 1998, Leskovec, Rajaraman & Ullman, *Mining of Massive Datasets*, ch. 3 (bands).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from rlhf.data.curation.wording import Hashes, mixed

_MOST_HASHES = 128
_FOUND = 0.99
_CHUNK = 4096


@dataclass(frozen=True)
class Banding:
    """`bands` keys a row, each of `rows` hashes."""

    bands: int
    rows: int

    @classmethod
    def for_threshold(cls, threshold: float) -> Banding:
        """As few chance meetings as 128 hashes allow, where a pair just as alike as `threshold` is met with
        probability 0.99: the longest bands, and as many as that takes.
        """
        best = cls(bands=_MOST_HASHES, rows=1)
        for rows in range(1, _MOST_HASHES + 1):
            missed_by_one = 1 - threshold**rows
            bands = ceil(log(1 - _FOUND) / log(missed_by_one)) if missed_by_one > 0 else 1
            if bands * rows > _MOST_HASHES:
                break
            best = cls(bands=bands, rows=rows)
        return best

    def probability(self, similarity: float) -> float:
        """That two rows of this Jaccard similarity share a key."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


class MinHash:
    """Band keys of sets of hashes; the same for the same banding, everywhere."""

    def __init__(self, banding: Banding) -> None:
        self.banding = banding
        generator = np.random.Generator(np.random.Philox(key=banding.bands * 1000 + banding.rows))
        size = banding.bands * banding.rows
        # Multiply-shift (Dietzfelbinger et al. 1997): the upper half of an odd multiple.
        self._factors = generator.integers(0, 2**64, size, np.uint64) | np.uint64(1)
        self._offsets = generator.integers(0, 2**64, size, np.uint64)

    def signature(self, grams: Hashes) -> NDArray[np.uint32]:
        """The least of each hash over the grams, `[bands * rows]`. Repeated grams change nothing."""
        least = np.full(len(self._factors), 2**32 - 1, np.uint32)
        spread = mixed(grams)
        for start in range(0, len(grams), _CHUNK):
            piece = spread[start : start + _CHUNK]
            hashed = (self._factors[:, None] * piece[None, :] + self._offsets[:, None]) >> np.uint64(32)
            np.minimum(least, hashed.min(axis=1).astype(np.uint32), out=least)
        return least

    def keys(self, grams: Hashes) -> Hashes:
        """One key a band, `[bands]`."""
        rows = self.signature(grams).reshape(self.banding.bands, self.banding.rows).astype(np.uint64)
        keys = np.zeros(self.banding.bands, np.uint64)
        for column in rows.T:
            keys = (keys ^ column) * np.uint64(0xFF51AFD7ED558CCD)
            keys ^= keys >> np.uint64(32)
        return keys
