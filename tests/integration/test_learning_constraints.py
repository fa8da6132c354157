"""PPO-Lagrangian earns what it can within its limit, and without one goes far beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, single

DATA: Recipe = {
    "type": "pocket",
    "num_prompts": 120,
    "num_demonstrations": 4000,
    "num_rankings": 100,
    "num_held_out": 150,
}
LIMIT = 6.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that answers in about four tokens."""
    sft = {
        "algorithm": {"type": "sft", "steps": 80, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2},
    }
    return rlhf.train(single(sft, data=DATA), out=tmp_path_factory.mktemp("base") / "run")


def constrained(base: RunResult, **algorithm: Any) -> Recipe:
    """Every token is paid for, and every token costs: the most that can be earned is at the limit."""
    return single(
        {
            "algorithm": {
                "type": "ppo_lagrangian",
                "steps": 30,
                "prompts_per_step": 32,
                "samples_per_prompt": 2,
                "minibatch_size": 32,
                "kl_coef": 0.01,
                "truncated": "score",
                "cost_limit": LIMIT,
                "cost_decay": 0.0,
                "multiplier_lr": 0.05,
                "multiplier_gain": 0.6,
                **algorithm,
            },
            "model": str(base.model),
            "reward": "num_tokens",
            "cost": "num_tokens",
            "optimizer": {"lr": 2e-3},
            "rollout": {"max_tokens": 12},
        },
        data=DATA,
        held_out_rows=120,
    )


def mean_of_last(run: RunResult, name: str, steps: int = 10) -> float:
    rows = run.metrics[-steps:]
    return float(sum(row[name] for row in rows) / len(rows))


def test_it_ends_within_a_tenth_of_the_limit_having_started_well_below(base: RunResult, tmp_path: Path) -> None:
    run = rlhf.train(constrained(base), out=tmp_path / "run")
    held_out = run.summary["stages"][-1]["held_out"]
    assert held_out["before"]["cost"]["high"] < 0.9 * LIMIT
    assert mean_of_last(run, "cost/mean") == pytest.approx(LIMIT, rel=0.1)
    assert held_out["after"]["cost"]["mean"] == pytest.approx(LIMIT, rel=0.1)
    assert mean_of_last(run, "cost/multiplier") > 0.5  # the limit is felt


def test_without_a_limit_to_speak_of_it_is_far_beyond(base: RunResult, tmp_path: Path) -> None:
    run = rlhf.train(constrained(base, cost_limit=1000.0, steps=15), out=tmp_path / "run")
    assert mean_of_last(run, "cost/mean", 3) > 1.5 * LIMIT
    assert mean_of_last(run, "cost/multiplier", 3) == 0.0


def test_a_cost_is_asked_for_and_not_taken_by_others(base: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ppo_lagrangian needs a cost to bound: name one with cost: NAME"):
        rlhf.train(constrained(base) | {"cost": []}, out=tmp_path / "a")
    with pytest.raises(ConfigError, match="cost: ppo does not look at costs"):
        rlhf.train(constrained(base) | {"algorithm": {"type": "ppo", "steps": 1}}, out=tmp_path / "b")
