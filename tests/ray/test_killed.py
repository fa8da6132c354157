"""A process that is killed ends the run at once, with the root cause first and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rlhf
from tests.ray.watched_run import WatchedRun, error_of
from tests.tiny_runs import SFT, Recipe, changed, pipeline, single

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECONDS = 30


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy and a reward model to start PPO from."""
    recipe = pipeline("inline")
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("models") / "run").folder


def long_ppo(models: Path) -> Recipe:
    recipe = pipeline("ray")
    return changed(
        recipe,
        {
            "stages": {"ppo": recipe["stages"]["ppo"]},
            "stages.ppo.model": str(models / "sft" / "model"),
            "stages.ppo.reward_model": str(models / "reward" / "model"),
            "stages.ppo.algorithm.steps": 100_000,
            "stages.ppo.rollout.engine": {"type": "marked_rollout"},
            "defaults.engine": {"type": "marked"},
        },
    )


ROLES = ["policy", "rollout", "reference", "value", "reward"]
EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))


@pytest.mark.skipif(not EVERY, reason="test_nodes loses workers too; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.parametrize("role", ROLES)
def test_a_killed_actor_ends_the_run_by_name(models: Path, tmp_path: Path, role: str) -> None:
    run = WatchedRun(long_ppo(models), tmp_path)
    run.wait_for_step(2)
    run.kill(role)
    code, errors = run.finish(SECONDS)
    assert code == 1
    assert error_of(errors).startswith(f"failed: {role} worker 0 died: "), errors
    assert "Traceback" not in errors
    assert run.left_behind() == {}


@pytest.mark.skipif(not EVERY, reason="another test loses a training worker; with RLHF_TEST_EVERY_METHOD=1")
def test_a_killed_training_worker_ends_the_run_by_name(tmp_path: Path) -> None:
    recipe = single(SFT, "ray", algorithm__steps=100_000, engine={"type": "marked"})
    run = WatchedRun(recipe, tmp_path)
    run.wait_for_step(2)
    run.kill("policy")
    code, errors = run.finish(SECONDS)
    assert code == 1
    assert error_of(errors).startswith("failed: training worker 0 died: "), errors
    assert "Traceback" not in errors
    assert run.left_behind() == {}
