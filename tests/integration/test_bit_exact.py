"""`kill -9` of both processes of a run, and a resume: all of it is as if nothing had happened, with ==.

Weights, optimizer tensors, figures, samples and what the last checkpoint says, for each method, ZeRO stage and number
format. The same on Ray, with a driver: tests/ray/test_bit_exact.py.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.exact_runs import CASES, KILLED_AFTER, STEPS, recipe, start_model
from tests.integration.killed_ranks import RANKS, run_ranks
from tests.tiny_runs import changed
from tests.whole_and_resumed import differences

pytestmark = [pytest.mark.deepspeed, pytest.mark.slow]
FEW = [("ppo", 1, "float32")]
"""The method with the most roles and state; and weights that are cut up, in the other format."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_model(tmp_path_factory.mktemp("start"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "stage", "dtype"), CASES if os.environ.get("RLHF_TEST_EVERY_METHOD") else FEW)
def test_a_killed_run_goes_on_bit_for_bit(method: str, stage: int, dtype: str, start: str, tmp_path: Path) -> None:
    asked = changed(recipe(method, stage, dtype, start), {"runtime": {"type": "inline"}})
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert run_ranks(asked, run, kill_after=KILLED_AFTER) == [-signal.SIGKILL] * RANKS
    assert len((run / "metrics.jsonl").read_text().splitlines()) == KILLED_AFTER
    assert not (run / "checkpoints" / f"step-{KILLED_AFTER}").exists()
    assert run_ranks(asked, run, resume=True) == [0] * RANKS
    assert run_ranks(asked, whole) == [0] * RANKS
    assert differences(whole, run) == []
    assert len((run / "metrics.jsonl").read_text().splitlines()) == STEPS
    assert (run / "checkpoints" / f"step-{KILLED_AFTER}" / "manifest.json").is_file()
