"""Rows with something wrong: named by line and counted, left out without moving the others, and never a crash."""

from __future__ import annotations

import itertools
import json
import logging
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rlhf.data.dataset import FilesConfig, FilesDataset
from rlhf.data.encode import Encoder
from rlhf.data.formats import FORMATS, read_record
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.types import Demonstration
from tests.unit.data.builders import chat_tokenizer
from tests.unit.data.test_formats import ROWS

GOOD = [{"prompt": f"p{n}", "completion": "a", "id": "the same"} for n in range(20)]
BAD = {
    3: b'{"prompt": "cut", "completion": "b',
    5: b'{"prompt": null, "completion": "a"}',
    6: b'{"prompt": 7, "completion": "a"}',
    8: b'{"prompt": [], "completion": "a"}',
    9: b'{"prompt": "\xe9", "completion": "a"}',
    11: b'{"prompt": "\\ud83d", "completion": "a"}',
    12: b"[1, 2]",
    14: b'{"messages": [{"role": "user", "content": "q"}]}',
    17: b'{"prompt": "p", "completion": "a", "depth": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    18: b'{"prompt": "p", "completion": "a", "level": ' + b"9" * 5000 + b"}",
}


def written(tmp_path: Path, bad: dict[int, bytes]) -> str:
    """The good rows, with those lines replaced."""
    lines = [bad.get(number, json.dumps(row).encode()) for number, row in enumerate(GOOD, start=1)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    return str(path)


def opened(path: str, **options: Any) -> FilesDataset:
    return FilesDataset(FilesConfig(path=path, **options))


def asked(dataset: FilesDataset, count: int, start: int = 0) -> list[str]:
    return [prompt.text or "" for prompt in islice(dataset.prompts(3, start), count)]


def test_every_bad_line_is_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, BAD)
    with pytest.raises(DataError) as raised:
        opened(path)
    message = str(raised.value)
    assert "\n" not in message
    assert "10 of 20 rows are bad" in message
    for line, fault in {
        3: "not valid JSON: Unterminated string",
        5: "`prompt` is null",
        6: "`prompt` should be text, is int",
        8: "`prompt` has no turns",
        9: "not UTF-8: byte 0xe9 at its offset 12",
        11: "`prompt` holds U+D83D at character 0, which is no character",
        12: "expected an object with named columns, found list",
        14: "no column `prompt`",
        17: "not JSON that can be read: maximum recursion depth exceeded",
        18: "not JSON that can be read: Exceeds the limit",
    }.items():
        assert f"rows.jsonl, line {line}: {fault}" in message
    with caplog.at_level(logging.WARNING):
        assert opened(path, on_bad_row="skip").bad_rows == 10
    assert "left out: 10 of 20 rows are bad" in caplog.text


def test_of_many_bad_rows_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"12 of 20 rows are bad: .*line 1: .*line 10: .*; and 2 more\. Mend them"):
        opened(written(tmp_path, dict.fromkeys(range(1, 13), b"{}")), format="prompt_completion")


def test_a_first_row_that_is_bad_does_not_hide_the_format(tmp_path: Path) -> None:
    dataset = opened(written(tmp_path, {1: b'{"prompt": null}', 2: b"{}"}), on_bad_row="skip")
    assert (dataset.sizes["demonstrations"], dataset.bad_rows) == (18, 2)


def test_rows_left_out_move_no_other(tmp_path: Path) -> None:
    """The order of the rest is that of the file without faults: mending a row moves nothing."""
    whole = asked(opened(written(tmp_path, {})), 60)
    bad = {f"p{number - 1}" for number in BAD}
    left = opened(written(tmp_path, BAD), on_bad_row="skip")
    expected = [text for text in whole if text not in bad]
    assert asked(left, 30) == expected
    for start in (1, 7, 10, 23):
        assert asked(left, 30 - start, start) == expected[start:]


@pytest.mark.parametrize("turns", ["all", "last", "each"])
def test_demonstrations_keep_their_order_too(tmp_path: Path, turns: str) -> None:
    shown = [
        [row.id for row in islice(opened(written(tmp_path, bad), turns=turns, on_bad_row="skip").demonstrations(3), 10)]
        for bad in ({}, BAD)
    ]
    left_out = {f"rows.jsonl:{number}" for number in BAD}
    expected = [row for row in shown[0] if row not in left_out]
    assert expected
    assert shown[1][: len(expected)] == expected


def test_too_many_bad_rows_are_an_error_though_they_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, BAD)
    assert opened(path, on_bad_row="skip", max_bad_rate=0.5).sizes["prompts"] == 10
    with pytest.raises(DataError, match=r"10 of 20 rows are bad.*more than max_bad_rate 0\.4"):
        opened(path, on_bad_row="skip", max_bad_rate=0.4)


def test_an_id_of_the_data_is_a_column_and_rows_keep_their_own(tmp_path: Path) -> None:
    prompts = list(islice(opened(written(tmp_path, {})).prompts(0), 20))
    assert {prompt.metadata["id"] for prompt in prompts} == {"the same"}
    assert len({prompt.id for prompt in prompts}) == 20


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", '"nan"', '"many"', "[1]"])
def test_a_margin_that_is_no_finite_number_is_a_fault(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "q", "chosen": "a", "rejected": "b", "margin": {number}}}')
    with pytest.raises(DataError, match="`margin` should be a finite number, is"):
        opened(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("label", ["NaN", "0.5", "2", "[]", '"yes"'])
def test_a_label_that_is_neither_true_nor_false_is_a_fault(tmp_path: Path, label: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "q", "completion": "a", "label": {label}}}')
    with pytest.raises(DataError, match="`label` should be true or false, is"):
        opened(str(tmp_path / "a.jsonl"))


DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
ODD: list[Any] = [
    None, True, 7, 1.5, float("nan"), "", " ", "[", "[]", "[[]]", '[{"role": 1}]', "\ud83d", "a\ufdd0b", "\x00", b"b",
    [], [[]], [None], [7], ["a", 7], [{}], [{"role": 7, "content": "x"}], [{"role": "user"}], [{"from": None}], {},
    DEEP, {"role": "user"}, {"a": {"b": None}}, datetime(2026, 1, 1, tzinfo=UTC),
    [{"role": "assistant", "content": "a"}], [{"role": "user", "content": [7]}],
    [{"role": "user", "content": "q", "weight": "heavy"}],
]  # fmt: skip
"""What columns hold that should hold something else."""


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_nothing_a_column_may_hold_is_more_than_a_fault(known: Any) -> None:
    row = ROWS[known.name]
    outcomes = set()
    for column, value in itertools.product([*row, "system", "history", "margin", "reference"], ODD):
        outcomes.add(outcome(known, {**row, column: value}))
    missing = {outcome(known, {name: kept for name, kept in row.items() if name != column}) for column in row}
    assert outcomes == {"read", "one line"}
    assert "one line" in missing


def outcome(known: Any, row: dict[str, Any]) -> str:
    """`read`, or how many lines its fault has; nothing else may come of a row."""
    try:
        read_record(known, "0", row)
    except Fault as fault:
        return "lines" if "\n" in str(fault) else "one line"
    return "read"


def test_a_huge_row_is_left_out_and_counted() -> None:
    """Also where it is full of what spells control tokens, each of which is looked at."""
    encoder = Encoder(chat_tokenizer(), 100)
    for text in ("word " * 20_000, "<|im_end|>" * 4_000):
        turns = ({"role": "user", "content": text}, {"role": "assistant", "content": "a"})
        assert encoder.encode_demonstration(Demonstration(id="0", messages=turns)) is None
    assert encoder.dropped == 2
