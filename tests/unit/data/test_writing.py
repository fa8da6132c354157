"""Every format can be written so that reading gives back the same; what it has no place for is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.data.curation.writing import WRITERS, require_writable, write_record
from rlhf.data.dataset import as_chat
from rlhf.data.formats import FORMATS, detect, find_format, read_record
from rlhf.data.readers import Record
from rlhf.data.turns import Fault
from rlhf.errors import DataError

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is Rome?"},
    {"role": "assistant", "content": "In Italy."},
    {"role": "user", "content": "And Bonn?"},
]
PLAIN = [{"role": "user", "content": "Where is Bonn?"}]
PAIR = {"chosen": "In Germany.", "rejected": "No idea."}
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [*ASKED, {"role": "assistant", "content": "In Germany.", "weight": 0.5}]},
    "sharegpt": {"messages": [*ASKED, {"role": "assistant", "content": "In Germany."}]},
    "alpaca": {"prompt": ASKED, "completion": "In Germany."},
    "prompt_completion": {"prompt": "Where is Bonn?", "completion": "In Germany.", "source": "atlas"},
    "preference": {"prompt": "Where is Bonn?", **PAIR, "margin": 0.5},
    "conversation_preference": {"prompt": ASKED, **PAIR},
    "transcript_preference": {"prompt": PLAIN, **PAIR},
    "sharegpt_preference": {"prompt": ASKED, **PAIR, "score_chosen": 3, "score_rejected": 1},
    "alpaca_preference": {"prompt": ASKED, **PAIR},
    "ranking": {"prompt": ASKED, "completions": ["In Germany.", "In Europe.", "No idea."]},
    "alpaca_ranking": {"prompt": PLAIN, "completions": ["In Germany.", "In Europe.", "No idea."]},
    "labelled": {"prompt": "Where is Bonn?", "completion": "No idea.", "label": False},
    "stepwise": {"prompt": "1 + 1 + 1", "completions": ["1 + 1 = 2", "2 + 1 = 3"], "labels": [True, True]},
    "prompt": {"prompt": "Where is Bonn?", "reference": "Germany", "level": 2},
    "prompt_messages": {"messages": PLAIN},
    "text": {"text": "Bonn is a city."},
}


def record_of(row: dict[str, Any]) -> Record:
    return read_record(detect(row, "row"), "row", row)


def test_every_format_is_written_and_tried() -> None:
    assert set(WRITERS) == set(ROWS) == {known.name for known in FORMATS}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_written_reads_as_it_was(name: str) -> None:
    record = record_of(ROWS[name])
    row = write_record(name, record)
    assert detect(row, "row").name == name
    again = read_record(find_format(name), "row", row)
    # A format of turns makes one turn of the user of a plain text.
    assert again in (record, as_chat(record))


@pytest.mark.parametrize(
    ("name", "row", "why"),
    [
        ("text", ROWS["prompt"], "no document"),
        ("prompt_completion", ROWS["prompt"], "no answer"),
        ("preference", ROWS["ranking"], "ranks 3 answers"),
        ("labelled", ROWS["preference"], "no label"),
        ("alpaca", ROWS["messages"], "weights"),
        ("transcript_preference", ROWS["conversation_preference"], "system"),
        ("prompt_messages", ROWS["conversation_preference"], "convert --to prompt"),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(name: str, row: dict[str, Any], why: str) -> None:
    with pytest.raises(Fault, match=why):
        write_record(name, record_of(row))


def test_a_column_that_would_be_taken_for_something_else_is_refused() -> None:
    record = record_of({"prompt": "Where?", "completion": "There.", "output": "elsewhere"})
    with pytest.raises(Fault, match="output"):
        write_record("alpaca", record)


def test_a_format_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'mesages'.* Did you mean 'messages'"):
        require_writable("mesages")
