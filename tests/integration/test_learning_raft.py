"""RAFT improves what its reward measures; with a reward that says nothing it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, changed, single

CLEAN = {"type": "pocket", "num_prompts": 120, "num_demonstrations": 4000, "num_rankings": 0, "num_held_out": 150}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer at all."""
    sft = {
        "algorithm": {"type": "sft", "steps": 80, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2},
    }
    return rlhf.train(single(sft, data=CLEAN, held_out_rows=0), out=tmp_path_factory.mktemp("base") / "run")


def raft(base: RunResult, **changes: Any) -> Recipe:
    stage = {
        "algorithm": {"type": "raft", "steps": 12, "prompts_per_step": 32, "samples_per_prompt": 8},
        "model": str(base.model),
        "optimizer": {"lr": 2e-3},
        "rollout": {"max_tokens": 12, "engine": {"type": "transformers", "batch_size": 256}},
    }
    return changed(single(stage, data=CLEAN, held_out_rows=120), changes)


def brevity(folder: Path) -> str:
    """Fewer words are better."""
    path = folder / "brevity.py"
    path.write_text("def brevity(completions):\n    return [-float(len(text.split())) for text in completions]\n")
    return f"{path}:brevity"


def lengths(run: RunResult) -> tuple[float, float]:
    """Tokens of a completion in the first steps, and in the last."""
    rows = run.metrics
    start, end = (sum(row["rollout/length"] for row in part) / len(part) for part in (rows[:2], rows[-3:]))
    return start, end


def test_the_best_of_its_own_samples_make_a_policy_better(base: RunResult, tmp_path: Path) -> None:
    run = rlhf.train(raft(base, reward=brevity(tmp_path)), out=tmp_path / "run")
    before, after = (run.summary["stages"][-1]["held_out"][label]["reward"] for label in ("before", "after"))
    assert before["mean"] < -2.5
    assert after["mean"] > -1.8
    assert after["low"] > before["high"]
    start, end = lengths(run)
    assert end < 0.65 * start
    for row in run.metrics:
        assert row["reward/kept"] > row["reward/mean"]
        assert row["rollout/kept"] <= 1 / 8


def test_with_a_constant_reward_nothing_is_learned(base: RunResult, tmp_path: Path) -> None:
    run = rlhf.train(raft(base, reward="constant"), out=tmp_path / "run")
    start, end = lengths(run)
    assert end == pytest.approx(start, rel=0.2)
