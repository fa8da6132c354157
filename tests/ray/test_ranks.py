"""World size is invisible: two ranks under ZeRO take the step that one process takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rlhf
from tests.tiny_runs import PPO, SFT, Recipe, changed, pipeline, single, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow]

TOLERANCE = 1e-5
LR = 1e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = pipeline()
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("models") / "run").folder


def spread(recipe: Recipe, zero_stage: int, *roles: str) -> Recipe:
    """The same on Ray, with two ranks for each of these roles."""
    workers = {role: {"num": 2, "cpus": 0.2} for role in roles}
    rest = {role: {"cpus": 0.1} for role in ("reference", "reward", "value", "rollout") if role not in roles}
    return changed(
        recipe,
        {
            "runtime.type": "ray",
            "runtime.workers": workers | (rest if "rollout" in recipe else {}),
            "engine": {"type": "deepspeed", "zero_stage": zero_stage},
        },
    )


def assert_close(one: Path, other: Path, start: Path) -> None:
    mine, theirs, before = weights_of(one), weights_of(other), weights_of(start)
    assert mine.keys() == theirs.keys()
    moved = max(float((mine[name] - before[name]).abs().max()) for name in mine if name in before)
    assert moved > 50 * TOLERANCE, f"the step moves weights by {moved} at most, which shows nothing"
    apart = {name: float((mine[name] - theirs[name]).abs().max()) for name in mine}
    worst = max(apart, key=apart.__getitem__)
    assert apart[worst] <= TOLERANCE, f"{worst} is {apart[worst]} apart"


def figures(run: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith("time") and k != "stage"} for row in run.metrics]


def test_one_ppo_step_of_two_ranks_under_zero_3(ray_up: None, models: Path, tmp_path: Path) -> None:
    ppo = {
        **PPO["algorithm"],
        "steps": 1,
        "prompts_per_step": 7,
        "samples_per_prompt": 1,
        "minibatch_size": 7,
        "epochs": 1,
    }
    recipe = single(
        {
            **PPO,
            "algorithm": ppo,
            "model": str(models / "sft" / "model"),
            "reward_model": str(models / "reward" / "model"),
            "optimizer": {"lr": LR, "eps": 1e-4},
        }
    )
    one = rlhf.train(recipe, out=tmp_path / "one")
    two = rlhf.train(spread(recipe, 3, "policy", "value"), out=tmp_path / "two")
    assert_close(one.model, two.model, models / "sft" / "model")
    mine, theirs = figures(one), figures(two)
    assert mine[0].keys() == theirs[0].keys()
    for name, value in mine[0].items():
        assert theirs[0][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("zero_stage", [2])
def test_sft_of_two_ranks_under_ray_train(ray_up: None, models: Path, tmp_path: Path, zero_stage: int) -> None:
    # 7 rows: the ranks' shares are uneven, and a blank row makes up for it.
    recipe = single(
        {
            **SFT,
            "model": str(models / "sft" / "model"),
            "algorithm": {"type": "sft", "steps": 2, "batch_size": 7},
            "optimizer": {"lr": LR, "eps": 1e-4},
        }
    )
    one = rlhf.train(recipe, out=tmp_path / "one")
    two = rlhf.train(spread(recipe, zero_stage, "policy"), out=tmp_path / "two")
    assert_close(one.model, two.model, models / "sft" / "model")
    for mine, theirs in zip(figures(one), figures(two), strict=True):
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    held_out = [run.summary["stages"][0]["held_out"]["after"]["loss"]["mean"] for run in (one, two)]
    assert held_out[0] == pytest.approx(held_out[1], abs=1e-5)
    assert torch.isfinite(torch.tensor(held_out)).all()
