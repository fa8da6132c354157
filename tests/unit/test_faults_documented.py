"""docs/faults.md has a row for each of the 28 faults, and every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUM_FAULTS = 28
_ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w./-]+\.py)::(\w+)`")


OF_ROW_24 = (
    "`tests/unit/runtime/test_run_lock.py::test_a_second_run_is_told_who_has_the_folder`, "
    "`tests/unit/runtime/test_run_lock.py::test_a_lock_ends_with_its_process`"
)


def faults(page: str) -> list[tuple[int, list[tuple[str, str]]]]:
    """The number of each row, and the tests it names."""
    return [(int(number), _TEST.findall(shown_by)) for number, _, _, shown_by in _ROW.findall(page)]


def problems(page: str) -> list[str]:
    """What is wrong with the table."""
    rows = faults(page)
    numbers = [number for number, _ in rows]
    found = [] if numbers == list(range(1, NUM_FAULTS + 1)) else [f"rows are {numbers}, not 1 to {NUM_FAULTS}"]
    found += [f"row {number} names no test" for number, tests in rows if not tests]
    for number, tests in rows:
        found += [f"row {number}: no {path}::{name}" for path, name in tests if name not in named_tests(path)]
    return found


@cache
def named_tests(path: str) -> frozenset[str]:
    """Functions of a file that pytest would collect; none where there is no such file."""
    file = ROOT / path
    if not file.is_file() or not file.name.startswith("test_"):
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.fixture
def page() -> str:
    return (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_fault_has_a_row_and_every_test_is_there(page: str) -> None:
    assert not problems(page), "\n".join(problems(page))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("| 7 | A checkpoint", "| 6 | A checkpoint", "rows are "),
        ("test_bad_rows.py::test_rows_left_out_move_no_other", "test_bad_rows.py::test_rows", "row 13: no "),
        (
            "tests/unit/data/test_files.py::",
            "tests/unit/data/test_file.py::",
            "row 13: no ",
        ),
        (OF_ROW_24, "two tests", "row 24 names no test"),
    ],
)
def test_what_is_missing_is_noticed(page: str, old: str, new: str, problem: str) -> None:
    assert old in page
    assert any(found.startswith(problem) for found in problems(page.replace(old, new)))
