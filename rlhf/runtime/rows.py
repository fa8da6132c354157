"""A stream of encoded rows with a position that can be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from rlhf.errors import DataError

Item = TypeVar("Item")
Row = TypeVar("Row")


class RowStream(Generic[Item, Row]):
    """Batches of encoded rows, each item giving none, one or several; `position` says how far they are consumed."""

    def __init__(
        self,
        items: Callable[[int], Iterator[Item]],
        encode: Callable[[Item], Sequence[Row]],
        batch_size: int,
        counts: Callable[[], Mapping[str, int]],
        position: Mapping[str, int] | None = None,
        *,
        per_epoch: int,
        limit: str = "",
    ) -> None:
        self._item, self._row = (position["item"], position["row"]) if position else (0, 0)
        self.position = {"item": self._item, "row": self._row, **counts()}
        """Items fully consumed, rows consumed of the next one, and the encoder's `counts` up to there."""
        self._items = items(self._item)
        self._encode = encode
        self._batch_size = batch_size
        self._counts = counts
        self._per_epoch, self._limit = per_epoch, limit
        self._current: Sequence[Row] | None = None

    def take(self, count: int | None = None) -> list[Row]:
        """The next batch, or the next `count` rows."""
        wanted = self._batch_size if count is None else count
        rows: list[Row] = []
        empty = 0
        while len(rows) < wanted:
            if self._current is None:
                self._current = self._encode(next(self._items))
                empty = empty + 1 if not self._current else 0
                if empty > self._per_epoch:  # a whole epoch and one more: however long one waits, none will come
                    raise DataError(
                        f"none of the data's {self._per_epoch} rows can be used: all are empty or longer than "
                        f"{self._limit}; give shorter rows or a model with a longer context, or cut them with "
                        "rows.overlong: cut"
                    )
            taken = self._current[self._row : self._row + wanted - len(rows)]
            rows.extend(taken)
            self._row += len(taken)
            if self._row >= len(self._current):
                self._item, self._row, self._current = self._item + 1, 0, None
        self.position = {"item": self._item, "row": self._row, **self._counts()}
        return rows


def first_rows(items: Iterator[Any], count: int, encode: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """Rows of the first `count` items of an endless iterator."""
    return [row for _, item in zip(range(count), items, strict=False) for row in encode(item)]
