"""Rows of every format as prompts with completions, and what a trial makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError, RewardError
from rlhf.testing import rollout
from rlhf.testing.rows import read_probes, read_tried_rows
from rlhf.testing.trying import Trial, try_judge
from rlhf.testing.verdicts import RewardJudge, excerpt
from rlhf.tracking.samples_file import SamplesFile
from rlhf.types import Rollout, Score

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_rows(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write_rows


ASKED = "\n\nHuman: Why?\n\nAssistant:"
TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    ("row", "completions", "is_ranked"),
    [
        ({"prompt": "Why?", "completion": "So."}, ("So.",), False),
        ({"prompt": "Why?", "completion": ""}, ("",), False),
        ({"messages": TURNS}, ("So.",), False),
        ({"instruction": "Why?", "output": "So."}, ("So.",), False),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, ("So.", "No."), True),
        ({"prompt": "Why?", "completions": ["So.", "Hm.", "No."]}, ("So.", "Hm.", "No."), True),
        ({"prompt": "Why?", "completion": "So.", "label": False}, ("So.",), False),
        ({"prompt": "Why?", "completions": ["So", "it is."], "labels": [True, True]}, ("So\nit is.",), False),
        ({"chosen": f"{ASKED} So.", "rejected": f"{ASKED} No."}, ("So.", "No."), True),
        ({"prompt": "Why?"}, (), False),
    ],
)  # fmt: skip
def test_completions_of_every_format(
    write: Write, row: dict[str, Any], completions: tuple[str, ...], is_ranked: bool
) -> None:
    (tried,) = read_tried_rows(write(row)).rows
    assert tried.prompt.last_user_text == "Why?"
    assert tried.completions == completions
    assert tried.is_ranked is is_ranked


def test_samples_of_a_run_are_read_with_those_that_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    SamplesFile(path).log(1, [rollout("Why?", "So."), rollout("How?", "")])
    rows = read_tried_rows(path).rows
    assert [(row.prompt.last_user_text, row.completions) for row in rows] == [("Why?", ("So.",)), ("How?", ("",))]


def test_columns_travel_and_can_be_renamed(write: Write) -> None:
    path = write({"question": "Why?", "answer": "So.", "level": 3, "reference": "So."})
    (row,) = read_tried_rows(path, {"prompt": "question", "completion": "answer"}).rows
    assert row.prompt.metadata == {"level": 3}
    assert row.prompt.reference == "So."


def test_rows_that_cannot_be_read_are_counted(write: Write) -> None:
    found = read_tried_rows(write({"prompt": "Why?", "completion": "So."}, {"prompt": "", "completion": "So."}))
    assert (len(found.rows), found.left_out) == (1, 1)
    assert "line 2: `prompt` is empty" in found.first_fault
    with pytest.raises(DataError, match=r"none of 1 rows can be judged; the first: .*line 1: `prompt` is empty"):
        read_tried_rows(write({"prompt": "", "completion": "So."}))
    with pytest.raises(DataError, match="a row of format text has no prompt"):
        read_tried_rows(write({"text": "a document"}))


def test_limit_is_of_rows(write: Write) -> None:
    path = write(*({"prompt": str(number), "completion": "So."} for number in range(9)))
    assert [row.prompt.text for row in read_tried_rows(path, limit=2).rows] == ["0", "1"]


def test_prompts_alone_are_probed_with_everyday_answers(write: Write) -> None:
    probes = read_probes(write({"prompt": "Why?", "level": 1}, {"prompt": "How?", "level": 2}))
    assert [probe.prompt.metadata["level"] for probe in probes] == [1, 1, 2, 2]
    assert all(probe.completion.text for probe in probes)


# --- trials ----------------------------------------------------------------------------------------------------------


def tried(function: Callable[[str], Any], path: Path, columns: Sequence[str] = ()) -> Trial:
    def reward(rollouts: Sequence[Rollout]) -> list[Any]:
        return [function(row.completion.text) for row in rollouts]

    return try_judge(RewardJudge(reward, columns), read_tried_rows(path), "reward 'it'")


def test_pairs_are_judged_side_by_side(write: Write) -> None:
    pairs = [("aaaa", "a"), ("aaa", "aa"), ("a", "aa"), ("aa", "bb")]
    trial = tried(len, write(*({"prompt": "Why?", "chosen": c, "rejected": r} for c, r in pairs)))
    assert [item.side for item in trial.tried[:2]] == ["chosen", "rejected"]
    assert trial.in_order is not None
    assert (trial.in_order.value, trial.in_order.n) == (2.5 / 4, 4)
    assert trial.mean is not None
    assert trial.mean.value == pytest.approx(2.125)
    assert trial.std == pytest.approx(0.9270248)


def test_a_ranking_counts_once_and_not_at_all_without_a_score(write: Write) -> None:
    def score(text: str) -> Score | float:
        return Score(error="cannot") if text == "?" else float(text)

    path = write({"prompt": "Why?", "completions": ["3", "1", "2"]}, {"prompt": "Why?", "completions": ["1", "?"]})
    trial = tried(score, path)
    assert trial.in_order is not None
    assert (trial.in_order.value, trial.in_order.n) == (pytest.approx(2 / 3), 1)
    assert (trial.num_errors, trial.num_faults, len(trial.values)) == (1, 0, 4)


def test_a_row_that_raises_is_found_and_the_others_are_scored(write: Write) -> None:
    trial = tried(lambda text: 1 / len(text), write(*({"prompt": "Why?", "completion": t} for t in ("a", "", "bb"))))
    assert trial.values == [1.0, 0.5]
    assert trial.tried[1].verdict.fault is not None
    assert "ZeroDivisionError: division by zero (test_rows.py, line" in trial.tried[1].verdict.fault


def test_what_only_a_batch_raises_is_no_ones_fault_in_particular(write: Write) -> None:
    def reward(rollouts: Sequence[Rollout]) -> list[float]:
        if len(rollouts) > 1:
            raise ValueError("one at a time")
        return [1.0]

    rows = read_tried_rows(write({"prompt": "Why?", "completion": "a"}, {"prompt": "Why?", "completion": "b"}))
    with pytest.raises(RewardError, match=r"raised ValueError: one at a time .* 2 completions at once, and for none"):
        try_judge(RewardJudge(reward), rows, "reward 'it'")


def test_a_batch_of_the_wrong_length_ends_the_trial(write: Write) -> None:
    rows = read_tried_rows(write({"prompt": "Why?", "completion": "a"}))
    with pytest.raises(RewardError, match="reward 'it': it returned 0 numbers for 1 completions"):
        try_judge(RewardJudge(lambda rollouts: []), rows, "reward 'it'")


def test_errors_of_ours_keep_their_words(write: Write) -> None:
    def down(text: str) -> float:
        raise ConfigError("the endpoint is down")

    with pytest.raises(ConfigError, match="the endpoint is down"):
        tried(down, write({"prompt": "Why?", "completion": "a"}))


def test_a_column_that_is_missing_is_named_before_anything_is_judged(write: Write) -> None:
    path = write({"prompt": "Why?", "completion": "a", "levels": 3})
    with pytest.raises(DataError, match=r"needs the column 'level', which .*line 1 does not have\. Did you"):
        tried(len, path, ["level"])
    with pytest.raises(DataError, match="needs the column 'reference'"):
        tried(len, path, ["reference"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("two\nlines", "two lines"), ("a\x00b", "a\\x00b"), ("x" * 100, "x" * 17 + "..."), ("é", "é")],
)
def test_excerpts_are_one_printable_line(text: str, shown: str) -> None:
    assert excerpt(text, 20) == shown
