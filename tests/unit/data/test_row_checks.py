"""What is found in rows, and counts that add up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlhf.data.curation.row_checks import KINDS, findings_in, kind_of_fault
from rlhf.data.curation.row_stats import RowStats, percentiles
from rlhf.data.curation.row_view import LineReader, RowView
from rlhf.data.turns import Fault

PAIR = {"prompt": "Where is Bonn?", "chosen": "In Germany.", "rejected": "No idea."}


def view(row: dict[str, Any]) -> RowView:
    raw = json.dumps(row).encode()
    return LineReader("rows").with_format_of(1, raw).read(1, raw)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"prompt": "a", "chosen"', "not_json"),
        (b"[1]", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"prompt": "\xff"}', "not_utf8"),
        (json.dumps(PAIR | {"chosen": " "}).encode(), "empty"),
        (json.dumps(PAIR | {"chosen": None}).encode(), "empty"),
        (json.dumps(PAIR | {"rejected": "In Germany."}).encode(), "equal_sides"),
        (json.dumps(PAIR | {"chosen": 3}).encode(), "bad_row"),
        (json.dumps({"text": "another format"}).encode(), "bad_row"),
    ],
)
def test_a_row_that_cannot_be_read_has_a_kind(raw: bytes, kind: str) -> None:
    with pytest.raises(Fault) as fault:
        LineReader("rows", "preference").read(1, raw)
    assert kind_of_fault(str(fault.value)) == kind
    assert KINDS[kind].severity == "problem"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "narrator", "content": "he said"}],
        [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}],
    ],
)
def test_turns_that_make_no_conversation_are_of_one_kind(messages: list[dict[str, str]]) -> None:
    with pytest.raises(Fault) as fault:
        LineReader("rows", "messages").read(1, json.dumps({"messages": messages}).encode())
    assert kind_of_fault(str(fault.value)) == "turns"


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        (PAIR, []),
        (PAIR | {"chosen": "In GÃ¶ttingen"}, ["damaged_text"]),
        (PAIR | {"chosen": "It\u00e2\u20ac\u2122s there"}, ["damaged_text"]),
        (PAIR | {"chosen": "In \ufffd"}, ["damaged_text"]),
        (PAIR | {"chosen": "In \x00"}, ["damaged_text"]),
        (PAIR | {"chosen": "In Göttingen, Ã la carte, naïve Ångström: 100 €"}, []),
        (PAIR | {"chosen": "Bonn &amp; Rome"}, ["markup"]),
        (PAIR | {"margin": -1.0}, ["doubtful_label"]),
        ({"prompt": "Say what I say, please.", "completion": "Say what I say, please."}, ["echo"]),
    ],
)
def test_findings_in_a_row(row: dict[str, Any], kinds: list[str]) -> None:
    assert [kind for kind, _ in findings_in(view(row))] == kinds


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    rows = [view(PAIR | {"chosen": "word " * number, "topic": "ab"[number % 2]}) for number in range(1, 40)]
    whole, merged = RowStats(), RowStats()
    for row in rows:
        whole.add(row, "en")
    for start in range(0, 39, 10):
        part = RowStats()
        for row in rows[start : start + 10]:
            part.add(row, "en")
        merged.merge(json.loads(json.dumps(part.as_dict())))
    assert merged.summary() == whole.summary()
    assert merged.hints() == whole.hints()
    assert whole.summary()["categories"] == {"topic": {"b": 20, "a": 19}}
    assert any("longer one in 97% of pairs" in hint for hint in whole.hints())


def test_a_column_of_many_values_is_no_category() -> None:
    stats = RowStats()
    for number in range(60):
        stats.add(view(PAIR | {"id": str(number), "score": 0.5}))
    assert "categories" not in stats.summary()


def test_percentiles_are_those_of_the_sorted_values() -> None:
    values = [1] * 50 + [10] * 45 + [100] * 5
    found = percentiles({1: 50, 10: 45, 100: 5})
    assert (found["p25"], found["p50"], found["p75"], found["p95"], found["p99"], found["max"]) == (
        1,
        1,
        10,
        10,
        100,
        100,
    )
    assert found["mean"] == pytest.approx(sum(values) / 100)


def test_equal_rows_have_equal_keys_and_others_do_not() -> None:
    assert view(PAIR).key() == view(PAIR | {"id": 7}).key()
    swapped = view(PAIR | {"chosen": PAIR["rejected"], "rejected": PAIR["chosen"]})
    assert view(PAIR).key() != swapped.key()
    assert view(PAIR).judged_key()[0] == swapped.judged_key()[0]
    assert view(PAIR).judged_key()[1] != swapped.judged_key()[1]
