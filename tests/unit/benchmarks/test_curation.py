"""Near copies and items of evaluations planted in real data are found: `python -m benchmarks.curation` in short."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.curation import contamination_found, measured, near_duplicates_found, write_large

ROWS = 400


@pytest.mark.parametrize("found_in", [near_duplicates_found, contamination_found])
def test_what_is_planted_in_real_data_is_found_and_little_else(
    data_dir: Path, tmp_path: Path, found_in: object
) -> None:
    found = found_in(data_dir, tmp_path, ROWS)  # type: ignore[operator]
    assert found.recall.count >= ROWS // 5
    assert found.recall.hits >= 0.95 * found.recall.count
    assert found.precision.hits >= 0.95 * found.precision.count


def test_the_large_file_has_the_size_asked_for_and_copies_in_it(data_dir: Path, tmp_path: Path) -> None:
    write_large(data_dir, tmp_path / "large.jsonl", 300_000)
    lines = (tmp_path / "large.jsonl").read_text("utf-8").splitlines()
    assert 300_000 <= (tmp_path / "large.jsonl").stat().st_size < 310_000
    assert len(set(lines)) < len(lines)
    assert all(json.loads(line).keys() == {"chosen", "rejected"} for line in lines)


def test_memory_is_that_of_all_processes_of_a_command() -> None:
    child = "x = bytearray(60_000_000); import time; time.sleep(2)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    seconds, resident, shares = measured([sys.executable, "-c", parent])
    assert seconds >= 2
    assert resident > 60e6
    assert shares > 55e6
