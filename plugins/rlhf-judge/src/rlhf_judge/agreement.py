"""How far judges agree beyond chance. Labels are any values that can be compared; scores are labels too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

Weights = Literal["none", "linear", "quadratic"]


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights = "none") -> float:
    """Cohen's kappa of two judges of the same items: 1 for full agreement, 0 for what chance would give.

    kappa = 1 - sum(w_ij o_ij) / sum(w_ij e_ij), with o the observed and e the expected shares of each pair of labels,
    and w the distance of the two labels (Cohen 1960, 1968): 1 for any two that differ; with `linear` weights |i - j|,
    with `quadratic` (i - j)^2, of numbers. Not a number where both judges gave one and the same label throughout.
    """
    if len(first) != len(second):
        raise ValueError(f"two judges of the same items, given {len(first)} and {len(second)} labels")
    if not first:
        raise ValueError("no items to agree on")
    observed = sum(_distance(a, b, weights) for a, b in zip(first, second, strict=True)) / len(first)
    counts = Counter(first), Counter(second)
    expected = sum(n * m * _distance(a, b, weights) for a, n in counts[0].items() for b, m in counts[1].items())
    expected /= len(first) ** 2
    return 1 - observed / expected if expected else math.nan


def _distance(a: Hashable, b: Hashable, weights: Weights) -> float:
    if weights == "none":
        return float(a != b)
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        raise ValueError(f"{weights} weights need numbers as labels, given {a!r} and {b!r}")
    return abs(a - b) if weights == "linear" else float(a - b) ** 2


class FleissTally:
    """Fleiss' kappa of any number of judges, kept up item by item without keeping the items (Fleiss 1971)."""

    def __init__(self) -> None:
        self._items = 0
        self._judges = 0
        self._agreement = 0.0
        self._labels: Counter[Hashable] = Counter()

    def add(self, labels: Sequence[Hashable]) -> None:
        """One item, with the label of each judge; every item by the same number of them."""
        if self._items and len(labels) != self._judges:
            raise ValueError(f"every item needs {self._judges} judges, given {len(labels)}")
        self._judges = len(labels)
        self._agreement += agreement(labels)
        self._labels.update(labels)
        self._items += 1

    @property
    def kappa(self) -> float:
        """1 for full agreement, 0 for what chance would give; not a number before any item, or with one label only."""
        if not self._items:
            return math.nan
        num_labels = self._items * self._judges
        chance = sum((count / num_labels) ** 2 for count in self._labels.values())
        return (self._agreement / self._items - chance) / (1 - chance) if chance < 1 else math.nan


def agreement(labels: Sequence[Hashable]) -> float:
    """The share of pairs of judges that gave one item the same label, 0 to 1 (P_i of Fleiss 1971)."""
    judges = len(labels)
    if judges < 2:
        raise ValueError(f"agreement needs two judges or more, given {judges}")
    same = sum(count * (count - 1) for count in Counter(labels).values())
    return same / (judges * (judges - 1))


def fleiss_kappa(items: Sequence[Sequence[Hashable]]) -> float:
    """Fleiss' kappa of items, each with the label of every judge."""
    tally = FleissTally()
    for labels in items:
        tally.add(labels)
    return tally.kappa
