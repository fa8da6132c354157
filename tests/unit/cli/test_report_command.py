"""`rlhf report` as a user meets it: one run, several, and what it refuses in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.cli.exit_codes import BAD_INPUT, run_command


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.yaml").write_text("algorithm: sft\n")
        (folder / "summary.json").write_text(json.dumps({"seed": 0, "stages": []}))
    monkeypatch.chdir(tmp_path)
    return ["one", "two"]


def test_one_run_gets_its_page_in_its_folder(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", "one"]) == 0
    assert capsys.readouterr().out == "report: one/report.html\n"
    assert Path("one/report.html").read_text().startswith("<!doctype html>")


def test_several_runs_get_one_page(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", *runs]) == 0
    assert capsys.readouterr().out == "report: comparison.html\n"
    assert "2 runs compared" in Path("comparison.html").read_text()
    assert not Path("one/report.html").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_out_says_where_the_page_goes(runs: list[str], count: int) -> None:
    assert run_command(["report", *runs[:count], "--out", "pages/mine.html"]) == 0
    assert Path("pages/mine.html").is_file()
    assert not Path("one/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one", "--out", "two"], "--out two is a folder"),
        (["one", "one/"], "given twice"),
        (["."], "not a run folder"),
        (["one/summary.json"], "no such folder"),
        (["one", "three"], "three: no such folder"),
    ],
)
def test_mistakes_are_said_in_one_line(
    runs: list[str], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", *arguments]) == BAD_INPUT
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
