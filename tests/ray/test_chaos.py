"""The short form of `python -m benchmarks.chaos`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.chaos import trial

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))
CASES = [(2, True), (6, False), (6, True)]


@pytest.mark.skipif(not EVERY, reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kills", "while_saving"), CASES)
def test_a_run_whose_processes_are_killed_ends_as_one_that_was_let_be(
    kills: int, while_saving: bool, ray_up: None, tmp_path: Path
) -> None:
    told = trial(kills, 1, while_saving=while_saving, folder=tmp_path)
    assert sum(told["killed"].values()) == kills
    assert [name for name, value in told.items() if value is False] == []
