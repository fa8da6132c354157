"""Blocks of a file of lines: every line in one of them, under its own number, and none read that has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.data.curation.blocks import Snapshot, plan_blocks, read_block
from rlhf.errors import DataError


def written(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
@pytest.mark.parametrize("max_lines", [None, 1, 3])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_blocks_hold_every_line_under_its_number(
    tmp_path: Path, size: int, max_lines: int | None, ending: bytes
) -> None:
    lines = [b'{"a": %d}' % number + b" " * (number % 5) for number in range(23)]
    lines[4] = b""  # a blank line has a number and is no row
    lines[6] += b"\rlone carriage return"
    file = written(tmp_path, b"\n".join(lines) + ending)

    blocks = list(plan_blocks(file, size, max_lines))
    read = [line for block in blocks for line in read_block(file, block)]

    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert (blocks[0].start, blocks[-1].end) == (0, file.stat().st_size)
    assert [(line.number, line.raw.rstrip()) for line in read] == [
        (number, raw.rstrip()) for number, raw in enumerate(lines, start=1) if raw
    ]
    content = file.read_bytes()
    assert all(content[line.start : line.start + len(line.raw)] == line.raw for line in read)
    assert max_lines is None or all(block.num_lines <= max_lines for block in blocks)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    file = written(tmp_path, b'\xef\xbb\xbf{"a": 1}\n')
    assert [line.raw for block in plan_blocks(file) for line in read_block(file, block)] == [b'{"a": 1}']


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        list(plan_blocks(written(tmp_path, b"")))


def test_a_block_that_changed_is_noticed_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"a": 1}\n')
    (block,) = plan_blocks(file)
    file.write_bytes(b'{"a": 2}\n')
    with pytest.raises(DataError, match="changed while it was read"):
        read_block(file, block)


def test_a_file_that_grew_is_noticed(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"a": 1}\n')
    snapshot = Snapshot.of(file)
    snapshot.require_unchanged()
    with file.open("ab") as more:
        more.write(b'{"a": 2}\n')
    with pytest.raises(DataError, match="changed while it was read"):
        snapshot.require_unchanged()
