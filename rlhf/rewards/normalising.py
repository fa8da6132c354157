"""Values of one reward brought to mean 0 and standard deviation 1, so that a weight means the same for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

_LEAST_STD = 1e-6
"""Below this all values are equal but for rounding: they say nothing, and are 0."""


class Normaliser:
    """`batch`: by the values it is given. `running`: by all it was ever given, those included (Welford 1962)."""

    def __init__(self, by: Literal["none", "batch", "running"]) -> None:
        self._by = by
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def __call__(self, values: Sequence[float]) -> list[float]:
        """The values of one step, in order."""
        if self._by == "none" or not values:
            return list(values)
        if self._by == "batch":
            self._count, self._mean, self._squares = 0, 0.0, 0.0
        for value in values:
            self._add(value)
        std = math.sqrt(self._squares / self._count)
        return [(value - self._mean) / std if std > _LEAST_STD else 0.0 for value in values]

    def _add(self, value: float) -> None:
        self._count += 1
        before = value - self._mean
        self._mean += before / self._count
        self._squares += before * (value - self._mean)

    def state(self) -> dict[str, float]:
        """What a resumed run needs: nothing where no value outlives its step."""
        if self._by != "running":
            return {}
        return {"count": self._count, "mean": self._mean, "squares": self._squares}

    def restore(self, state: Mapping[str, float]) -> None:
        if self._by == "running":
            self._count, self._mean, self._squares = int(state["count"]), state["mean"], state["squares"]
