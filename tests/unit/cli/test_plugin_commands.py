"""`rlhf plugins new|show|check`, `rlhf reward test` and `rlhf grade`, as they are typed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rlhf.cli import plugin_check, plugin_new
from rlhf.cli.exit_codes import run_command
from rlhf.errors import ConfigError

REWARDS = """
import os
from rlhf import hookimpl
from rlhf.types import Grade, Score

def letters(completions):
    print("not for the reader")
    return [float(len(text)) for text in completions]

def careful(rollouts): ...

def level(completions, level):
    return [float(x) for x in level]

def fragile(completions):
    return [1 / len(text) for text in completions]

class Parted:
    def __init__(self, config, parts): ...
    def __call__(self, rollouts):
        sound = Score(value=1.0, parts={"a": 0.25})
        return [sound if r.completion.text else Score(error="nothing said") for r in rollouts]

class Grader:
    axis = "honest"
    def __init__(self, config, parts): ...
    def grade(self, rollouts):
        score = lambda r: float(r.completion.text == "So.")
        return [Grade(axis="honest", score=score(r), rationale="as told") for r in rollouts]

from rlhf import PartConfig
class Config(PartConfig): ...

@hookimpl
def register_rewards(register):
    register("parted", Parted, config=Config)

@hookimpl
def register_graders(register):
    register("told", Grader, config=Config)
"""
PAIRS = [
    {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
    {"prompt": "How?", "chosen": "So.", "rejected": "Well."},
]
ROWS = [{"prompt": "Why?", "completion": "So."}, {"prompt": "How?", "completion": ""}]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(REWARDS)
    for name, rows in (("pairs", PAIRS), ("rows", ROWS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def said(capfd: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run_command(argv) == code
    return capfd.readouterr().out


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run_command(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# --- rlhf reward test ------------------------------------------------------------------------------------------------


def test_reward_is_tried_on_pairs(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = said(capfd, "reward", "test", "mine.py:letters", "--data", "pairs.jsonl").splitlines()
    assert lines[0].split() == ["row", "side", "score", "completion"]
    assert lines[1].split() == ["1", "chosen", "3", "So."]
    assert lines[4].split() == ["2", "rejected", "5", "Well."]
    assert lines[6].startswith("4 of 4 completions scored; mean 3.500 [3.000, 4.000], std 0.866; 0 errors; ")
    assert lines[7] == "chosen > rejected: 0.250 [0.000, 0.500] of 2 rankings (a tie is half)"
    assert len(lines) == 8


def test_a_broken_package_does_not_keep_a_reward_from_being_tried(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, real_entry_points: None
) -> None:
    info = here / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlhf]\nacme = acme\n")
    (here / "site" / "acme.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(here / "site")
    monkeypatch.setenv("PYTHONPATH", str(here / "site"), prepend=":")  # for the reward's own process
    assert run_command(["reward", "test", "mine.py:letters", "--data", "pairs.jsonl"]) == 0
    out, err = capfd.readouterr()
    assert "4 of 4 completions scored" in out
    assert err.startswith("not loaded: plugin 'acme' (package acme 1.0): ")


def test_reward_with_parts_and_errors_as_json(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ("reward", "test", "parted", "--data", "rows.jsonl", "--plugin", "mine.py", "--json")
    report = json.loads(said(capfd, *argv))
    assert report["rows"] == [
        {"id": "rows.jsonl:1", "score": 1.0, "parts": {"a": 0.25}, "prompt": "Why?", "completion": "So."},
        {"id": "rows.jsonl:2", "score": None, "error": "nothing said", "prompt": "How?", "completion": ""},
    ]
    figures: dict[str, Any] = report["summary"]
    assert (figures["completions"], figures["scored"], figures["errors"], figures["broken"]) == (2, 1, 1, 0)
    assert figures["mean"]["value"] == 1.0
    assert figures["chosen_over_rejected"] is None


def test_a_row_that_raises_is_shown_and_the_exit_code_says_so(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "reward", "test", "mine.py:fragile", "--data", "rows.jsonl", code=1)
    assert "broken  raised ZeroDivisionError: division by zero (mine.py, line " in out
    assert "1 of 2 completions scored; " in out
    assert "; 1 broken; " in out


def test_built_in_reward_with_options(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "reward", "test", "constant", "value=0.25", "--data", "rows.jsonl", "--limit", "1")
    assert "1 of 1 completions scored; mean 0.250, std 0.000" in out
    nested = ("reward", "test", "graded", "grader.type=told", "--plugin", "mine.py", "--data", "rows.jsonl")
    assert "mean 0.500" in said(capfd, *nested)


def test_long_tables_show_both_ends(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = ["a" * number for number in range(1, 31)]
    rows = [json.dumps({"prompt": "Why?", "completion": text}) + "\n" for text in texts]
    (here / "many.jsonl").write_text("".join(rows))
    out = said(capfd, "reward", "test", "mine.py:letters", "--data", "many.jsonl", "--show", "4").splitlines()
    assert [line.split()[1] for line in out[1:5]] == ["1", "2", "29", "30"]
    assert out[5].startswith("(4 of 30: ")
    assert "row" not in said(capfd, "reward", "test", "mine.py:letters", "--data", "many.jsonl", "--show", "0").split()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["mine.py:level", "--data", "rows.jsonl"], "needs the column 'level'"),
        (["mine.py:leters", "--data", "rows.jsonl"], "Did you mean 'letters'?"),
        (["no_such", "--data", "rows.jsonl"], "no reward is called 'no_such'"),
        (["constant", "valeu=1", "--data", "rows.jsonl"], "Did you mean 'value'?"),
        (["mine.py:letters", "words=1", "--data", "rows.jsonl"], "takes no options"),
        (["constant", "--data", "gone.jsonl"], "no file gone.jsonl"),
        (
            ["constant", "--data", "rows.jsonl", "--column", "completion"],
            "--column completion: write NAME=COLUMN, the name that is wanted and then the file's own",
        ),
        (["reward_model", "--data", "rows.jsonl"], "the stage's reward model cannot be asked"),
    ],
)
def test_mistakes_are_told_in_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert message in refused(capfd, "reward", "test", *argv)


def test_prompts_alone_hold_nothing_to_judge(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "prompts.jsonl").write_text('{"prompt": "Why?", "answer": "So."}\n')
    assert "hold no completions to judge" in refused(capfd, "reward", "test", "constant", "--data", "prompts.jsonl")
    argv = ("reward", "test", "constant", "--data", "prompts.jsonl", "--column", "completion=answer")
    assert "1 of 1 completions scored" in said(capfd, *argv)


def test_a_file_with_one_reward_needs_no_name(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "1 of 2 completions scored" in said(capfd, "reward", "test", "mine.py", "--data", "rows.jsonl")
    (here / "none.py").write_text("")
    assert "none.py has no function of completions, " in refused(
        capfd, "reward", "test", "none.py", "--data", "rows.jsonl"
    )
    (here / "one.py").write_text("def half(completions, *, of=2.0):\n    return [1 / of for _ in completions]\n")
    assert "mean 0.250" in said(capfd, "reward", "test", "one.py", "of=4", "--data", "rows.jsonl")
    assert "registers told; say which grader" not in said(capfd, "grade", "rows.jsonl", "--grader", "mine.py", code=0)


def test_none_for_every_row_is_explained(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "shy.py").write_text(
        "def shy(completions, answer=None):\n    return answer or [None for _ in completions]\n"
        "def mute(completions):\n    return [None for _ in completions]\n"
    )
    assert run_command(("reward", "test", "shy.py:shy", "--data", "rows.jsonl")) == 1
    assert "perhaps it looks for 'answer', which the data does not have. Columns: none" in capfd.readouterr().err
    assert run_command(("reward", "test", "shy.py:mute", "--data", "rows.jsonl")) == 1
    assert "None for every row: None says that a reward does not apply; perhaps" in capfd.readouterr().err


# --- rlhf grade ------------------------------------------------------------------------------------------------------


def test_grades_are_told_and_written(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ("grade", "pairs.jsonl", "--grader", "told", "--plugin", "mine.py", "--out", "grades.jsonl")
    lines = said(capfd, *argv).splitlines()
    assert lines[1].split(maxsplit=3) == ["1", "chosen", "1", "as told  So."]
    assert lines[-3].split("  ")[-1].strip() == "chosen > rejected"
    told = lines[-2].split()
    assert told[:3] == ["told", "honest", "0.500"]
    assert told[-3] == "1.000"
    rows = [json.loads(line) for line in (here / "grades.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "grader": "told", "axis": "honest", "id": "pairs.jsonl:1", "score": 0.0, "side": "rejected",
        "rationale": "as told", "prompt": "Why?", "completion": "No.",
    }  # fmt: skip
    assert "grades.jsonl exists" in refused(capfd, *argv)


def test_several_graders_each_on_their_axis(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": "q", "completion": "So.", "axis": "honest"},
        {"prompt": "q", "completion": "a", "axis": "helpful", "answer": "a", "content": "a", "task": "copy"},
    ]
    (here / "axes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ("grade", "axes.jsonl", "--grader", "told", "--grader", "pocket_helpful", "--plugin", "mine.py", "--json")
    graders = json.loads(said(capfd, *argv))["graders"]
    assert {name: (g["axis"], g["graded"], g["other_axis"]) for name, g in graders.items()} == {
        "told": ("honest", 1, 1),
        "pocket_helpful": ("helpful", 1, 1),
    }


def test_a_grader_without_a_grade_is_a_failure(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no grade" in said(capfd, "grade", "rows.jsonl", "--grader", "pocket_honest", code=1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rows.jsonl"], "give a grader"),
        (["rows.jsonl", "--grader", "tolled", "--plugin", "mine.py"], "Did you mean 'told'?"),
        (["rows.jsonl", "a=1", "--grader", "told", "--grader", "pocket_honest"], "options are of one grader"),
        (["rows.jsonl", "--grader", "told", "--out", "nowhere/grades.jsonl"], "there is no folder nowhere"),
    ],
)
def test_mistakes_in_grading_are_told_in_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert message in refused(capfd, "grade", *argv)


# --- rlhf plugins show, list and check -------------------------------------------------------------------------------


def test_plugin_is_shown_with_options_types_defaults_and_docs(capfd: pytest.CaptureFixture[str]) -> None:
    lines = said(capfd, "plugins", "show", "rewards").splitlines()
    assert lines[0] == "plugin: rewards"
    assert lines[1].startswith("from:   rlhf ")
    free = next(line for line in lines if line.startswith("    free "))
    assert free.split(maxsplit=3) == ["free", "int", "0", "Tokens that do not count."]


def test_broken_plugin_is_shown_with_its_error(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "bad.py").write_text("1 / 0")
    out = said(capfd, "plugins", "show", "bad", "--plugin", "bad.py", code=1)
    assert "error:  ZeroDivisionError: division by zero" in out
    assert "Did you mean 'bad'?" in refused(capfd, "plugins", "show", "bda", "--plugin", "bad.py")


def test_list_tells_distribution_and_version(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capfd, "plugins", "list", "--json", "--plugin", "mine.py"))["plugins"]
    by_name = {info["name"]: info for info in found}
    assert by_name["rewards"]["distribution"] == "rlhf"
    assert by_name["mine"]["distribution"] is None
    assert by_name["mine"]["parts"] == ["grader told", "reward parted"]


def test_check_prints_a_line_a_check_and_fails(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = said(capfd, "plugins", "check", "mine.py:fragile", code=1).splitlines()
    assert any(line.startswith("failed   reward fragile            empty text") for line in lines)
    assert lines[-1].endswith(" failed, 0 skipped")


def test_options_without_a_part_are_refused() -> None:
    assert plugin_check._by_part(["a.x=1", "a.y.z=[2]"]) == {"a": {"x": 1, "y": {"z": [2]}}}
    with pytest.raises(ConfigError, match=r"say whose it is, as in PART\.x=VALUE"):
        plugin_check._by_part(["x=1"])


# --- rlhf plugins new ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"), [("kindness", "kindness"), ("Kind_.Ness", "kind-ness"), ("rlhf-kind", "kind"), ("3d", "3d")]
)
def test_names_are_written_as_package_indexes_write_them(given: str, name: str) -> None:
    assert plugin_new.plugin_name(given) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "ä", "a/b", "..", "rlhf", "Constant", "rlhf-data"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        plugin_new.plugin_name(name)


@pytest.mark.parametrize("name", ["kindness", "3d-model", "42"])
def test_files_of_a_new_plugin_are_sound(tmp_path: Path, name: str) -> None:
    plugin_new.write_package(name, tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    (module,) = project["entry-points"]["rlhf"].values()
    assert project["name"] == f"rlhf-{name}"
    assert (tmp_path / "src" / module / "__init__.py").is_file()
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "$" in path.read_text()]


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rlhf-kind").mkdir()
    assert "rlhf-kind exists; give another folder with --out DIR" in refused(capfd, "plugins", "new", "kind")
    assert not list(Path("rlhf-kind").iterdir())
    assert "no folder 'nowhere'" in refused(capfd, "plugins", "new", "kind", "--out", "nowhere/kind")
    assert "made other" in said(capfd, "plugins", "new", "kind", "--out", "other")
