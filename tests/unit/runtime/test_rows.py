"""A stream of rows can stop anywhere and be taken up there: no row is lost, none comes twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

import pytest

from rlhf.errors import DataError
from rlhf.runtime.rows import RowStream, first_rows

Encode = Callable[[int], Sequence[str]]


def numbers(start: int) -> Iterator[int]:
    return count(start)


def one_each(item: int) -> list[str]:
    return [f"{item}"]


def several_each(item: int) -> list[str]:
    """0, 1, 2, 3 rows in turn: items that are dropped, and documents cut in pieces."""
    return [f"{item}.{piece}" for piece in range(item % 4)]


class Left:
    """An encoder's counts of what it left out."""

    def __init__(self, encode: Encode) -> None:
        self.dropped = 0
        self._encode = encode

    def encode(self, item: int) -> Sequence[str]:
        rows = self._encode(item)
        self.dropped += not rows
        return rows

    def counts(self) -> dict[str, int]:
        return {"dropped": self.dropped}


def batches(
    encode: Encode, size: int, number: int, position: dict[str, int] | None = None
) -> tuple[list[str], dict[str, int]]:
    left = Left(encode)
    left.dropped = position["dropped"] if position else 0
    stream = RowStream(numbers, left.encode, size, left.counts, position, per_epoch=10)
    rows = [row for _ in range(number) for row in stream.take()]
    return rows, dict(stream.position)


@pytest.mark.parametrize("encode", [one_each, several_each])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("stop", [1, 2, 3, 7])
def test_a_stream_taken_up_goes_on_as_if_it_had_never_stopped(encode: Encode, size: int, stop: int) -> None:
    whole, end = batches(encode, size, 10)
    first, position = batches(encode, size, stop)
    rest, end_of_rest = batches(encode, size, 10 - stop, position)
    assert first + rest == whole
    assert end_of_rest == end
    assert whole == list(islice((row for item in count() for row in encode(item)), 10 * size))


def test_the_position_counts_items_done_and_rows_of_the_next() -> None:
    _, position = batches(several_each, 2, 2)
    # Rows 1.0 2.0 | 2.1 3.0: item 0 gave none, items 0 to 2 are done, one row of item 3 is.
    assert position == {"item": 3, "row": 1, "dropped": 1}


def test_a_stream_begins_where_the_data_is_told_to() -> None:
    asked: list[int] = []

    def items(start: int) -> Iterator[int]:
        asked.append(start)
        return count(start)

    stream = RowStream(items, one_each, 2, dict, {"item": 40, "row": 0}, per_epoch=50)
    assert stream.take() == ["40", "41"]
    assert asked == [40]


def test_data_of_which_no_row_fits_is_refused_and_not_read_for_ever() -> None:
    tried: list[int] = []
    stream = RowStream(numbers, lambda item: tried.append(item) or [], 2, dict, per_epoch=20, limit="64 tokens")
    with pytest.raises(DataError, match=r"none of the data's 20 rows can be used: .* longer than 64 tokens"):
        stream.take()
    assert len(tried) == 21


def test_what_is_wrong_with_a_row_comes_out_of_take() -> None:
    def encode(item: int) -> list[str]:
        if item == 3:
            raise DataError("row 3 has 99 tokens, the limit is 64")
        return [str(item)]

    stream = RowStream(numbers, encode, 2, dict, per_epoch=10)
    assert stream.take() == ["0", "1"]
    with pytest.raises(DataError, match="row 3 has 99 tokens"):
        stream.take()


def test_the_first_rows_are_those_of_the_first_items() -> None:
    assert first_rows(iter(range(100)), 4, several_each) == ["1.0", "2.0", "2.1", "3.0", "3.1", "3.2"]
