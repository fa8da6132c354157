"""`rlhf graders`: the list, and training one into a folder with its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from rlhf.cli.exit_codes import run_command

PLUGIN = '''
from __future__ import annotations

from rlhf import PartConfig, hookimpl
from rlhf.errors import DataError
from rlhf.types import Grade


class Config(PartConfig):
    path: str | None = None
    step: int = 1


class Lengths:
    """How long answers are.

    More words.
    """

    axis = "helpful"

    def __init__(self, config, parts):
        self.config = config

    def grade(self, rollouts):
        return [Grade(axis="helpful", score=0.5) for _ in rollouts]

    @classmethod
    def train(cls, config, rows, folder):
        (folder / "mean.txt").write_text(str(config.step * len(rows)))
        if any("text" not in row for row in rows):
            raise DataError("row without text")
        return {"split": "none at all", "accuracy": 0.5}


@hookimpl
def register_graders(register):
    register("lengths", Lengths, config=Config)
    register("fixed", lambda config, parts: Lengths(config, parts))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "guest.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b"}\n')
    return file


def train(plugin: Path, rows: Path, out: Path, *more: str, name: str = "lengths") -> int:
    return run_command(
        ["graders", "train", name, "--data", str(rows), "--out", str(out), "--plugin", str(plugin), *more]
    )


def refused(capsys: pytest.CaptureFixture[str], message: str) -> None:
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_list_says_which_are_trained(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["graders", "list", "--plugin", str(plugin), "--json"]) == 0
    found = {grader["name"]: grader for grader in json.loads(capsys.readouterr().out)["graders"]}
    assert found["lengths"] == {
        "name": "lengths", "plugin": "guest", "trained": True, "judges": "How long answers are."
    }  # fmt: skip
    assert found["fixed"]["trained"] is False
    assert found["pocket_honest"]["plugin"] == "pocket"
    assert run_command(["graders", "list", "--plugin", str(plugin)]) == 0
    assert "lengths          guest   yes      How long answers are." in capsys.readouterr().out


def test_train_writes_the_folder_and_its_card(
    plugin: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trained"
    assert train(plugin, rows, out, "step=3") == 0
    said = capsys.readouterr().out
    assert "accuracy  0.5" in said
    assert f"{{type: lengths, path: {out}}}" in said
    assert (out / "mean.txt").read_text() == "6"
    card = json.loads((out / "card.json").read_text())
    assert card["options"] == {"step": 3}
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    assert card["data"] == [{"file": "rows.jsonl", "sha256": digest, "rows": 2}]
    assert card["metrics"] == {"accuracy": 0.5}
    assert card["notes"] == {"split": "none at all"}
    assert [file["file"] for file in card["files"]] == ["mean.txt"]
    assert str(tmp_path) not in (out / "card.json").read_text()


def test_equal_training_gives_an_equal_card_and_json_stands_alone(
    plugin: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(plugin, rows, tmp_path / "one", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert train(plugin, rows, tmp_path / "two", "--json") == 0
    assert json.loads(capsys.readouterr().out) == first == json.loads((tmp_path / "two" / "card.json").read_text())


def test_rows_of_several_files_are_read_in_order(plugin: Path, rows: Path, tmp_path: Path) -> None:
    assert train(plugin, rows, tmp_path / "out", "--data", str(rows)) == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [file["rows"] for file in card["data"]] == [2, 2]


def test_failed_training_leaves_nothing(plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"words": "a"}\n')
    before = sorted(path.name for path in tmp_path.iterdir())
    assert train(plugin, bad, tmp_path / "out") == 2
    refused(capsys, "row without text")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_input_at_fault_is_one_line(
    plugin: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(plugin, rows, tmp_path / "out", name="length") == 2
    refused(capsys, "no grader is called 'length'. Did you mean 'lengths'?")
    assert train(plugin, rows, tmp_path / "out", name="fixed") == 2
    refused(capsys, "grader 'fixed' is not trained from data; those that are: lengths")
    assert train(plugin, rows, tmp_path / "out", "stepp=3") == 2
    refused(capsys, "grader lengths.stepp: unknown key. Did you mean 'step'?")
    assert train(plugin, tmp_path / "none.jsonl", tmp_path / "out") == 2
    refused(capsys, "--data: no such file")
    assert train(plugin, rows, tmp_path / "new" / "out") == 0  # folders are made
    capsys.readouterr()
    (tmp_path / "out").mkdir()
    assert train(plugin, rows, tmp_path / "out") == 2
    refused(capsys, "exists; give a new folder")
