"""A student comes near its teacher and learns what that knows; from a teacher that knows nothing it learns nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, assert_same_weights, changed, single

CLEAN = {"type": "pocket", "num_prompts": 120, "num_demonstrations": 4000, "num_rankings": 0, "num_held_out": 90}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer."""
    sft = {
        "algorithm": {"type": "sft", "steps": 100, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2, "schedule": "cosine"},
    }
    return rlhf.train(single(sft, data=CLEAN, held_out_rows=60), out=tmp_path_factory.mktemp("teacher") / "run")


def distill(teacher: Path, **changes: Any) -> Recipe:
    stage = {
        "algorithm": {"type": "distill", "steps": 60, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 48, "tokenizer": {"path": str(teacher)}}},
        "teacher": str(teacher),
        "optimizer": {"lr": 1e-2},
        "rollout": {"max_tokens": 10, "engine": {"type": "transformers", "batch_size": 256}},
    }
    return changed(single(stage, data=CLEAN, held_out_rows=60), changes)


def figures(run: RunResult, name: str) -> tuple[float, float]:
    held_out = run.summary["stages"][-1]["held_out"]
    return held_out["before"][name]["mean"], held_out["after"][name]["mean"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"algorithm.divergence": "reverse_kl"},
        {"algorithm.divergence": "jsd", "algorithm.beta": 0.5, "optimizer.lr": 2e-2},
        {"algorithm.on_policy": 0.5},
    ],
    ids=["forward", "reverse", "jsd", "on-policy"],
)
def test_a_student_comes_near_its_teacher(teacher: RunResult, tmp_path: Path, options: dict[str, Any]) -> None:
    run = rlhf.train(distill(teacher.model, **options), out=tmp_path / "run")
    before, after = figures(run, "kl_from_teacher")
    assert before > 3.0
    assert after < 0.35 * before
    loss_before, loss_after = figures(run, "loss")
    assert loss_after < loss_before - 2.0
    assert_same_weights(teacher.folder / "model", teacher.model)


def test_wholly_on_policy_needs_prompts_alone(teacher: RunResult, tmp_path: Path) -> None:
    """From a student that already talks, as on its own babble there is little to learn."""
    data = {**CLEAN, "num_demonstrations": 0}
    recipe = distill(teacher.model, data=data, **{"algorithm.on_policy": 1.0, "algorithm.steps": 25})
    weak = single(
        {
            "algorithm": {"type": "sft", "steps": 20, "batch_size": 32},
            "model": recipe["model"],
            "optimizer": {"lr": 1e-2},
        },
        data=CLEAN,
    )
    started = rlhf.train(weak, out=tmp_path / "weak")
    run = rlhf.train(changed(recipe, {"model": str(started.model)}), out=tmp_path / "run")
    before, after = figures(run, "kl_from_teacher")
    assert after < 0.7 * before
    assert all("rollout/length" in row and "reward/mean" not in row for row in run.metrics)


def test_from_a_teacher_that_knows_nothing_nothing_is_learned(teacher: RunResult, tmp_path: Path) -> None:
    untrained = teacher.folder / "initial"
    run = rlhf.train(distill(untrained), out=tmp_path / "run")
    assert figures(run, "kl_from_teacher")[1] < 0.1  # it does come near
    before, after = figures(run, "loss")
    assert after > before - 0.3
