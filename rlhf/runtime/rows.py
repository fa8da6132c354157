"""A stream of encoded rows with a position that can be saved: what was consumed, not what was read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from rlhf.errors import DataError

Item = TypeVar("Item")
Row = TypeVar("Row")

_MAX_EMPTY_RUN = 100_000
"""This many items in a row without a single usable one means none will come."""


class RowStream(Generic[Item, Row]):
    """Rows of the items, one to many each; `position` says how far they have been handed out."""

    def __init__(
        self,
        items: Callable[[int], Iterator[Item]],
        encode: Callable[[Item], Sequence[Row]],
        position: Mapping[str, int] | None = None,
    ) -> None:
        position = position or {"item": 0, "row": 0}
        self._item, self._row = position["item"], position["row"]
        self._items = items(self._item)
        self._encode = encode
        self._current: Sequence[Row] | None = None

    @property
    def position(self) -> dict[str, int]:
        """Items fully consumed, and rows consumed of the next one."""
        return {"item": self._item, "row": self._row}

    def take(self, count: int) -> list[Row]:
        """The next `count` rows."""
        rows: list[Row] = []
        empty = 0
        while len(rows) < count:
            if self._current is None:
                self._current = self._encode(next(self._items))
                empty = empty + 1 if not self._current else 0
                if empty > _MAX_EMPTY_RUN:
                    raise DataError(
                        "no row of the data fits: all are longer than the limit or empty; see rows.overlong"
                    )
            taken = self._current[self._row : self._row + count - len(rows)]
            rows.extend(taken)
            self._row += len(taken)
            if self._row >= len(self._current):
                self._item, self._row, self._current = self._item + 1, 0, None
        return rows


def first_rows(items: Iterator[Any], count: int, encode: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """Rows of the first `count` items of an endless iterator."""
    return [row for _, item in zip(range(count), items, strict=False) for row in encode(item)]
