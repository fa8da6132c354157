"""Choices become rows that training reads; sides are drawn at random, and nothing that was written is lost."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path

import pytest

from rlhf.data.dataset import FilesConfig, FilesDataset
from rlhf.errors import ConfigError
from rlhf.serving.preferences import JUDGEMENTS, PREFERENCES, SIDES, Comparison, Comparisons, PreferenceFiles
from rlhf.types import Message

MESSAGES = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Où est Rome ?\n<|end|> \ud83d"),  # half a character, as JSON can spell it
)


def comparison(left: str = "In Italy.", right: str = "No <b>idea</b>.") -> Comparison:
    made = Comparisons().begin(MESSAGES, ["one", "two"], {"temperature": 1.0})
    made.answers = {"left": left, "right": right}
    made.finish_reasons = {"left": "stop", "right": "length"}
    return made


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_bytes().decode().splitlines()]


def test_what_is_preferred_is_read_by_training(tmp_path: Path) -> None:
    files = PreferenceFiles(tmp_path / "new" / "folder")
    made = [comparison(), comparison(), comparison(), comparison()]
    for each, choice in zip(made, ("left", "right", "tie", "both_bad"), strict=True):
        files.record(each, choice)
    files.record(comparison(right=""), "left")  # nothing is learnt from a pair with an empty side
    dataset = FilesDataset(FilesConfig(path=str(files.folder / PREFERENCES)))
    rankings = list(islice(dataset.rankings(0), 2))
    assert {ranking.completions for ranking in rankings} == {
        ("In Italy.", "No <b>idea</b>."),
        ("No <b>idea</b>.", "In Italy."),
    }
    assert [message["role"] for message in rankings[0].prompt.messages] == ["system", "user"]
    written = rows(files.folder / PREFERENCES)
    assert [row["chosen_side"] for row in written] == ["left", "right"]
    assert [row["chosen_model"] for row in written] == [made[0].models["left"], made[1].models["right"]]
    judged = rows(files.folder / JUDGEMENTS)
    assert [row["choice"] for row in judged] == ["left", "right", "tie", "both_bad", "left"]
    assert judged[3]["left"]["model"] == made[3].models["left"]
    assert judged[3]["right"]["finish_reason"] == "length"


def test_sides_are_drawn_at_random_and_recorded() -> None:
    begun = [Comparisons().begin(MESSAGES, ["one", "two"], {}) for _ in range(200)]
    first = sum(each.models["left"] == "one" for each in begun)
    assert 50 < first < 150  # a fair coin leaves these bounds once in 10^12
    assert all(sorted(each.models.values()) == ["one", "two"] for each in begun)
    assert all(tuple(each.models) == SIDES for each in begun)


def test_several_at_once_leave_whole_lines(tmp_path: Path) -> None:
    files = PreferenceFiles(tmp_path)
    PreferenceFiles(tmp_path)  # what is there stays
    long = "x" * 100_000
    threads = [threading.Thread(target=files.record, args=(comparison(long, "y"), "left")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row["chosen"][0]["content"] for row in rows(tmp_path / PREFERENCES)] == [long] * 20


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--preferences .*file/x: cannot be written to: Not a directory$"):
        PreferenceFiles(tmp_path / "file" / "x")


def test_only_the_latest_comparisons_are_remembered() -> None:
    known = Comparisons()
    first = known.begin(MESSAGES, ["one", "two"], {})
    assert known.get(first.id) is first
    for _ in range(1000):
        last = known.begin(MESSAGES, ["one", "two"], {})
    assert known.get(first.id) is None
    assert known.get(last.id) is last
