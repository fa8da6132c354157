"""Preference methods on actors and under Ray Train: as inline to the last bit; two ranks as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from tests.tiny_runs import DPO, KTO, ONLINE_DPO, ORPO, SFT, Recipe, assert_same_weights, changed, single, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

METHODS = {"dpo": DPO, "kto": KTO, "orpo": ORPO, "online_dpo": ONLINE_DPO}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rlhf.train(single(SFT), out=tmp_path_factory.mktemp("base") / "run").model


def recipe_of(base: Path, name: str, **changes: Any) -> Recipe:
    # 7 rows and K = 3: with two ranks the shares are uneven, and a blank row makes up for it.
    small = {"steps": 2, "batch_size": 7} if name != "online_dpo" else {"steps": 2, "prompts_per_step": 7}
    algorithm = {key: value for key, value in METHODS[name]["algorithm"].items() if key not in small} | small
    stage = {**METHODS[name], "algorithm": algorithm, "model": str(base), "optimizer": {"lr": 1e-3, "eps": 1e-4}}
    return changed(single(stage, data__num_candidates=3), changes)


@pytest.mark.parametrize("name", METHODS)
def test_as_inline_to_the_last_bit(ray_up: None, base: Path, tmp_path: Path, name: str) -> None:
    recipe = recipe_of(base, name)
    runs = {
        kind: rlhf.train(changed(recipe, {"runtime.type": kind}), out=tmp_path / kind) for kind in ("inline", "ray")
    }
    assert_same_weights(runs["inline"].model, runs["ray"].model)
    before, after = weights_of(base), weights_of(runs["inline"].model)
    assert any(not before[key].equal(after[key]) for key in before)
    figures = [
        [{key: value for key, value in row.items() if not key.startswith("time")} for row in runs[kind].metrics]
        for kind in ("inline", "ray")
    ]
    assert figures[0] == figures[1]
    assert runs["inline"].summary["stages"][0]["held_out"] == runs["ray"].summary["stages"][0]["held_out"]


@pytest.mark.deepspeed
@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_two_ranks_under_zero_2_take_the_step_of_one(ray_up: None, base: Path, tmp_path: Path, name: str) -> None:
    one = rlhf.train(recipe_of(base, name), out=tmp_path / "one")
    spread = {
        "runtime.type": "ray",
        "runtime.workers": {"policy": {"num": 2, "cpus": 0.2}},
        "engine": {"type": "deepspeed", "zero_stage": 2},
    }
    two = rlhf.train(changed(recipe_of(base, name), spread), out=tmp_path / "two")
    mine, theirs, before = weights_of(one.model), weights_of(two.model), weights_of(base)
    assert max(float((mine[key] - before[key]).abs().max()) for key in mine) > 5e-4
    assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) <= 1e-5
    for row, other in zip(one.metrics, two.metrics, strict=True):
        for key in row.keys() - {"stage"}:
            if not key.startswith("time"):
                assert other[key] == pytest.approx(row[key], rel=1e-4, abs=1e-5), key
