"""Curation, conversion and checks of files: what comes of rows, the same bytes after a kill, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.data.curation.blocks import Block
from rlhf.errors import ConfigError, DataError, Interrupted, RewardError
from rlhf.runtime.data_jobs import lines_source
from rlhf.runtime.data_jobs.block_runs import Place
from rlhf.runtime.data_jobs.checking import CheckOptions, check
from rlhf.runtime.data_jobs.converting import convert
from rlhf.runtime.data_jobs.curating import Curated, CurateOptions, curate
from rlhf.runtime.data_jobs.judging import KeepRule, read_rules
from rlhf.runtime.data_jobs.lines_source import RowFormat
from rlhf.runtime.data_jobs.scanning import RowFilters, ScanWork

HERE = Place("inline")
STORY = "Once upon a time number {0} there lived a fox of {0} years who wanted to see the sea and walked {0} days"


def pair(number: int, **columns: Any) -> dict[str, Any]:
    return {"prompt": f"Tell me tale {number}.", "chosen": STORY.format(number), "rejected": "No.", **columns}


def write(file: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(line + "\n" for line in lines), "utf-8")
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Of twelve lines: a bad one (4), a copy (5), a near copy (7), a long one (9), an item of an evaluation (10)."""
    lines: list[Any] = [pair(number) for number in range(12)]
    lines[3] = '{"prompt": '
    lines[4] = pair(2, id="other columns do not count")
    lines[6] = pair(1) | {"rejected": "No!!"}
    lines[8] = pair(8) | {"rejected": "No. " * 500}
    lines[9] = pair(9) | {"chosen": "As asked: which of the two rivers is the longer one by far, do you think?"}
    return write(tmp_path / "rows.jsonl", lines)


@pytest.fixture
def options(tmp_path: Path) -> CurateOptions:
    evaluation = write(
        tmp_path / "exam.jsonl", [{"prompt": "Which of the two rivers is the longer one by far, do you think"}]
    )
    return CurateOptions(filters=RowFilters(max_characters=1000), evaluation=(str(evaluation),))


def curated(file: Path, options: CurateOptions, name: str = "kept.jsonl", **more: Any) -> Curated:
    return curate(file, file.parent / name, options, RowFormat(), HERE, **more)


def test_every_row_stays_as_it_was_or_goes_with_its_reason(rows: Path, options: CurateOptions) -> None:
    found = curated(rows, options)

    lines = rows.read_text().splitlines()
    removed = {row["line"]: (row["filter"], row["reason"], row["row"]) for row in read(found.removed_file)}
    assert {line: name for line, (name, _, _) in removed.items()} == {
        4: "bad_row",
        5: "duplicate",
        7: "near_duplicate",
        9: "length",
        10: "contamination",
    }
    assert removed[5][1] == "the same as line 3"
    assert removed[7][1].endswith("like line 2")
    assert removed[10][1] == "shares 13 words in a row with exam.jsonl:1"
    assert removed[4][2] == lines[3]
    assert removed[5][2] == json.loads(lines[4])
    assert found.out.read_text().splitlines() == [lines[n - 1] for n in range(1, 13) if n not in removed]
    assert (found.rows, found.kept, sum(found.removed.values())) == (12, 7, 5)
    assert json.loads(found.report_file.read_text()) == found.as_dict()
    assert not list(rows.parent.glob(".*")), "the folder of the work is gone"


@pytest.mark.parametrize("size", [1, 700])
def test_the_size_of_blocks_changes_no_byte(
    rows: Path, options: CurateOptions, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curated(rows, options)
    plan = lines_source.plan_blocks
    monkeypatch.setattr(lines_source, "plan_blocks", lambda path, _size, most: plan(path, size, most))
    apart = curated(rows, options, "apart.jsonl")
    for one, other in ((whole.out, apart.out), (whole.removed_file, apart.removed_file)):
        assert one.read_bytes() == other.read_bytes()


def test_a_near_copy_stays_where_only_exact_ones_go(rows: Path) -> None:
    found = curated(rows, CurateOptions(near_duplicates=None))
    assert found.removed == {"bad_row": 1, "duplicate": 1}


def test_graders_and_rewards_say_what_stays(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [pair(n) | {"chosen": "word " * n} for n in range(1, 9)])
    keep = read_rules(["num_tokens<=5", "num_tokens>2"], {})
    found = curated(file, CurateOptions(near_duplicates=None, keep=keep))
    assert [row["chosen"].count("word") for row in read(found.out)] == [3, 4, 5]
    assert {row["line"]: (row["filter"], row["reason"]) for row in read(found.removed_file)}[8] == (
        "num_tokens<=5",
        "num_tokens is 8",
    )


def test_a_judge_that_raises_ends_it_and_one_that_cannot_say_takes_the_row_out(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [pair(n) for n in range(4)])
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from rlhf.types import Score\n\n"
        "def odd(prompts, completions, **columns):\n"
        "    said = {'2': Score(error='cannot say'), '1': None}\n"
        "    return [said.get(text.split()[5], 1.0) for text in completions]\n\n"
        "def broken(prompts, completions, **columns):\n"
        "    raise KeyError('gold')\n"
    )
    given = {"near_duplicates": None, "plugin_files": (f"{plugin}:odd",)}
    found = curated(file, CurateOptions(keep=(KeepRule("odd", ">", 0.5),), **given))
    assert [row["reason"] for row in read(found.removed_file)] == ["odd could not judge it: cannot say"]
    assert found.kept == 3
    given["plugin_files"] = (f"{plugin}:broken",)
    with pytest.raises(RewardError, match=r"broken failed on rows rows.jsonl:1 to rows.jsonl:4"):
        curated(file, CurateOptions(keep=(KeepRule("broken", ">", 0.5),), **given), "other.jsonl")


def test_rows_of_parquet_csv_and_json_are_curated_too(tmp_path: Path) -> None:
    lines = write(tmp_path / "rows.jsonl", [pair(n, source=None if n % 2 else "web") for n in (1, 2, 3, 2)])
    table = convert(lines, tmp_path / "rows.parquet", None, RowFormat(), HERE)
    assert table.written == 4
    found = curated(table.out, CurateOptions(), "from_table.jsonl")
    assert [row["prompt"][-2] for row in read(found.out)] == ["1", "2", "3"]
    assert found.removed == {"duplicate": 1}


# --- kept through a kill, and not begun on what changed ---------------------------------------------------------------


def killed_after(blocks: int) -> Callable[..., Any]:
    """A scan that ends the process without a word after so many blocks."""
    real = ScanWork.open

    def opened(work: ScanWork) -> Callable[[Block], dict[str, Any]]:
        process = real(work)

        def dying(block: Block) -> dict[str, Any]:
            if block.number == blocks:
                os.kill(os.getpid(), signal.SIGKILL)
            return process(block)

        return dying

    return opened


def test_a_killed_curation_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [pair(n % 700) for n in range(1200)])
    whole = curated(file, CurateOptions(), "whole.jsonl")
    script = (
        "from tests.unit.runtime.test_data_jobs import *\n"
        "lines_source.BLOCK_BYTES = 4000\n"
        "lines_source.open_source.__kwdefaults__['block_bytes'] = 4000\n"
        "ScanWork.open = killed_after(7)\n"
        f"curated(Path({str(file)!r}), CurateOptions())\n"
    )
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    work = tmp_path / ".kept.jsonl.work"
    assert len(list(work.glob("scan-*.done"))) == 7
    first = (work / "scan-000003.done").stat().st_mtime_ns

    with pytest.raises(ConfigError, match=r"unfinished work on kept.jsonl: go on with --resume"):
        curated(file, CurateOptions())
    with pytest.raises(ConfigError, match=r"--resume: near_duplicates was 0.7 .* and is 0.8 now"):
        curated(file, CurateOptions(near_duplicates=0.8), resume=True)
    assert (work / "scan-000003.done").stat().st_mtime_ns == first
    again = curated(file, CurateOptions(), resume=True)

    for one, other in ((whole.out, again.out), (whole.removed_file, again.removed_file)):
        assert one.read_bytes() == other.read_bytes()
    assert not work.exists()


def test_a_file_that_changes_while_it_is_read_is_an_error(
    rows: Path, options: CurateOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ScanWork.open

    def opened(work: ScanWork) -> Callable[[Block], dict[str, Any]]:
        process = real(work)

        def meanwhile(block: Block) -> dict[str, Any]:
            done = process(block)
            with rows.open("a") as more:
                more.write(json.dumps(pair(99)) + "\n")
            return done

        return meanwhile

    monkeypatch.setattr(ScanWork, "open", opened)
    with pytest.raises(DataError, match=r"rows.jsonl changed while it was read"):
        curated(rows, options)
    assert not (rows.parent / "kept.jsonl").exists()
    monkeypatch.undo()
    with pytest.raises(DataError, match="is not as it was when"):
        curated(rows, options, resume=True)


def test_an_interrupted_curation_says_how_to_go_on(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, real = lines_source.plan_blocks, ScanWork.open
    monkeypatch.setattr(lines_source, "plan_blocks", lambda path, _size, most: plan(path, 300, most))

    def opened(work: ScanWork) -> Callable[[Block], dict[str, Any]]:
        process = real(work)

        def meanwhile(block: Block) -> dict[str, Any]:
            if block.number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return process(block)

        return meanwhile

    monkeypatch.setattr(ScanWork, "open", opened)
    with pytest.raises(Interrupted, match=r"scan: 2 of \d+ blocks are done and kept .* go on with --resume") as stopped:
        curated(rows, CurateOptions())
    assert stopped.value.exit_code == 143
    monkeypatch.setattr(ScanWork, "open", real)
    assert curated(rows, CurateOptions(), resume=True).rows == 12


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"near_duplicates": 1.5}, "--near-duplicates 1.5"),
        ({"evaluation": ("nowhere.jsonl",)}, "--against: no such file 'nowhere.jsonl'"),
        (
            {"keep": (KeepRule("num_token", "<", 1),)},
            "no grader or reward is called 'num_token'. Did you mean 'num_tokens'",
        ),
        ({"filters": RowFilters(languages=("english",))}, "--language english: no such language"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_row_is_read(
    rows: Path, changed: dict[str, Any], message: str
) -> None:
    if "filters" in changed:
        pytest.importorskip("py3langid")
    with pytest.raises((ConfigError, DataError), match=message):
        curated(rows, CurateOptions(**changed))
    assert not list(rows.parent.glob(".*"))


@pytest.mark.parametrize("rule", ["refusal", "refusal<", "refusal<x", "<0.5", "refusal=0.5", "refusal<1e"])
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match="--keep"):
        read_rules([rule], {})


def test_options_of_a_judge_that_no_rule_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no --keep names 'refusl'. Did you mean 'refusal'"):
        read_rules(["refusal<0.5"], {"refusl": {"path": "x"}})


@pytest.mark.parametrize("name", ["missing.jsonl", "rows.doc"])
def test_files_that_are_not_there_or_of_no_known_kind(rows: Path, name: str) -> None:
    (rows.parent / "rows.doc").write_text("x")
    with pytest.raises(DataError, match=r"no file .*missing|unknown suffix '.doc'"):
        curated(rows.with_name(name), CurateOptions())


def test_the_output_is_never_overwritten(rows: Path) -> None:
    (rows.parent / "kept.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        curated(rows, CurateOptions())


# --- check and convert ------------------------------------------------------------------------------------------------


def test_check_counts_what_it_finds_with_lines(rows: Path, options: CurateOptions) -> None:
    with rows.open("a") as more:
        twisted = pair(1) | {"chosen": "No.", "rejected": STORY.format(1)}
        more.write(json.dumps(twisted) + "\n")
    found = check(rows, CheckOptions(evaluation=options.evaluation), RowFormat(), HERE)
    counts = {kind: [item["line"] for item in told["examples"]] for kind, told in found.findings.items()}
    assert counts == {
        "not_json": [4],
        "duplicate": [5],
        "contamination": [10],
        "contradiction": [13],
        "same_prompt": [7, 13],
    }
    assert (found.rows, found.readable, found.has_problems) == (13, 12, True)
    assert found.findings["contradiction"]["examples"][0]["details"] == "judged the other way in line 2"
    assert found.balance["longer_side"]["rejected"] == pytest.approx(2 / 12)


def test_check_of_good_rows_finds_no_problem(tmp_path: Path) -> None:
    found = check(write(tmp_path / "rows.jsonl", [pair(n) for n in range(5)]), CheckOptions(), RowFormat(), HERE)
    assert not found.has_problems
    assert not found.findings


def test_convert_there_and_back(tmp_path: Path) -> None:
    rows = [pair(n, topic="tales") for n in range(5)]
    file = write(tmp_path / "rows.jsonl", rows)
    there = convert(file, tmp_path / "turns.parquet", "conversation_preference", RowFormat(), HERE)
    back = convert(there.out, tmp_path / "back.jsonl", "preference", RowFormat(), HERE)
    assert read(back.out) == [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]


def test_a_row_that_cannot_be_converted_is_named_or_counted(rows: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl, line 4: not valid JSON"):
        convert(rows, rows.parent / "a.jsonl", "ranking", RowFormat(), HERE)
    found = convert(rows, rows.parent / "b.jsonl", "ranking", RowFormat(), HERE, skip_bad_rows=True)
    assert (found.written, found.skipped) == (11, 1)
    with pytest.raises(DataError, match=r"none of its 12 rows can be written as text; the first: rows.jsonl, line 1"):
        convert(rows, rows.parent / "c.jsonl", "text", RowFormat(), HERE, skip_bad_rows=True)
