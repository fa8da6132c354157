"""Rows that are copies of an earlier row that is kept, but for some words. Bands propose, the words themselves decide.

Rows come in order, and a row is compared with rows that are kept: so whatever is removed has a kept row like it, and no
chain of small steps removes a row that is unlike all that remain.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.data.curation.wording import Hashes, jaccard

_MOST_CANDIDATES = 64
"""Kept rows a row is compared with, those first that share most bands: what all rows have must not cost a square."""
_CACHED = 4096


@dataclass(frozen=True)
class Duplicate:
    """Row `row` says what the earlier row `original` says, to the letter or nearly."""

    row: int
    original: int
    similarity: float
    """Of their sets of n-grams."""
    is_exact: bool = False


def exact_duplicates(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row of `keys` `[N, 2]`, the first row of the same key, or -1 where it is itself the first."""
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leaders = order[np.maximum.accumulate(np.where(fresh, np.arange(len(keys)), 0))]
    originals = np.full(len(keys), -1, np.int64)
    originals[order[~fresh]] = leaders[~fresh]
    return originals


def shared_bands(columns: Iterable[Hashes], alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which keys another living row has too, `[N, bands]`. `columns` are the keys of all rows, one band at a time."""
    rows = np.flatnonzero(alive)
    shared = []
    for column in columns:
        _, places, counts = np.unique(column[rows], return_inverse=True, return_counts=True)
        found = np.zeros(len(alive), bool)
        found[rows] = counts[places] > 1
        shared.append(found)
    return np.stack(shared, axis=1)


class NearDuplicates:
    """Finds them among rows that are given in order."""

    def __init__(self, threshold: float, grams_of: Callable[[int], Hashes]) -> None:
        """`grams_of`: the sorted n-grams of a row, read anew whenever they are asked for."""
        self._threshold = threshold
        self._grams_of = grams_of
        self._kept: dict[tuple[int, int], list[int]] = {}
        """Kept rows by band and key; of keys that only one row has, nothing is known."""
        self._cache: OrderedDict[int, Hashes] = OrderedDict()
        self.compared = 0

    def find(self, row: int, keys: Hashes, shared: NDArray[np.bool_]) -> Duplicate | None:
        """What this row is a copy of; where it is of none, it is kept and compared with those that follow."""
        bands = [(int(band), int(keys[band])) for band in np.flatnonzero(shared)]
        met = Counter(original for band in bands for original in self._kept.get(band, ()))
        likely = sorted(met, key=lambda original: (-met[original], original))[:_MOST_CANDIDATES]
        if likely:
            mine = self._grams(row)
            best = max(((self._alike(mine, original), -original) for original in likely), default=(0.0, 0))
            if best[0] >= self._threshold:
                self._cache.pop(row, None)
                return Duplicate(row, -best[1], best[0])
        for band in bands:
            self._kept.setdefault(band, []).append(row)
        return None

    def _alike(self, mine: Hashes, original: int) -> float:
        self.compared += 1
        return jaccard(mine, self._grams(original))

    def _grams(self, row: int) -> Hashes:
        found = self._cache.pop(row, None)
        self._cache[row] = self._grams_of(row) if found is None else found
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return self._cache[row]


def in_order(
    blocks: Iterable[tuple[int, Hashes]], shared: NDArray[np.bool_], alive: NDArray[np.bool_], finder: NearDuplicates
) -> Iterator[Duplicate]:
    """All near-duplicates of rows whose keys `[bands, n]` come block by block, each with its first row's number."""
    for first, keys in blocks:
        here = slice(first, first + keys.shape[1])
        for place in np.flatnonzero(alive[here] & shared[here].any(axis=1)):
            found = finder.find(first + int(place), keys[:, place], shared[first + place])
            if found is not None:
                yield found
