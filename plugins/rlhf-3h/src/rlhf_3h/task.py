"""What a trained grader has to say of itself: how it reads an answer, and what its training rows hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlhf.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Item:
    """An answer to judge, and what it may be compared with."""

    question: str
    answer: str
    correct: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Example:
    """An item that people judged. `targets` has 0 or 1 for each head they spoke of.

    No `group` is ever on both sides of a split: rows of one question, or copies of one answer.
    """

    item: Item
    targets: Mapping[str, float]
    group: str


class Task:
    """One thing a classifier learns. Subclasses give the terms and numbers of an item, and read the rows of a file."""

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    views: ClassVar[tuple[str, ...]] = ()
    num_numbers: ClassVar[int] = 0
    strength: ClassVar[float] = 10.0
    """C of the logistic regression: the higher, the closer it follows its data."""
    rows: ClassVar[str]
    """Columns of the rows it is trained on, in words, for errors."""

    def terms(self, item: Item) -> Mapping[str, list[str]]:
        """Terms of the item by view, as `views` names them."""
        return {}

    def numbers(self, item: Item) -> list[float]:
        """As many as `num_numbers`."""
        return []

    def examples(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        """Labelled items; `DataError` where a row is not of a form this task knows."""
        raise NotImplementedError

    def refuse(self, row: Mapping[str, Any], number: int) -> DataError:
        """The error of a row that this task cannot read."""
        columns = ", ".join(map(str, row)) or "none"
        return DataError(f"grader {self.name}: row {number} has the columns {columns}; it is trained on {self.rows}")


def label_of(value: Any, names: Mapping[str, float]) -> float | None:
    """0 or 1 from a number, a boolean or one of these names; None for anything else."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return float(value)
    return names.get(str(value).strip().lower())


def texts(row: Mapping[str, Any], columns: Iterable[str]) -> list[str] | None:
    """The columns' texts; None where one is missing or no text."""
    values = [row.get(column) for column in columns]
    return [str(value) for value in values] if all(isinstance(value, str) for value in values) else None
