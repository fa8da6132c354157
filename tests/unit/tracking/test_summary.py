"""summary.json: whole or not at all, the same figures in the same order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf.errors import DataError
from rlhf.tracking.summary import read_summary, write_summary


def test_round_trip_in_a_stable_order(tmp_path: Path) -> None:
    write_summary(
        tmp_path, {"seed": 1, "after": {"honest": 0.5, "helpful": float("nan")}, "stages": ({"name": "sft"},)}
    )
    first = (tmp_path / "summary.json").read_bytes()
    write_summary(tmp_path, {"stages": [{"name": "sft"}], "after": {"helpful": None, "honest": 0.5}, "seed": 1})
    assert (tmp_path / "summary.json").read_bytes() == first
    assert read_summary(tmp_path) == {
        "after": {"helpful": None, "honest": 0.5}, "seed": 1, "stages": [{"name": "sft"}],
    }  # fmt: skip


def test_a_failed_write_leaves_the_old_summary_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_summary(tmp_path, {"seed": 1})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_summary(tmp_path, {"seed": 2})
    assert read_summary(tmp_path) == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "holds list, not an object")])
def test_a_broken_summary_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_summary(tmp_path)


def test_a_missing_summary_says_what_the_folder_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder, or its run has not finished"):
        read_summary(tmp_path)
