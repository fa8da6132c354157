"""Preference methods under Ray Train: two ranks take the step of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import rlhf
from tests.tiny_runs import DPO, KTO, SFT, Recipe, changed, single, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow]

METHODS = {"dpo": DPO, "kto": KTO}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rlhf.train(single(SFT), out=tmp_path_factory.mktemp("base") / "run").model


def recipe_of(base: Path, name: str, **changes: Any) -> Recipe:
    # 7 rows and K = 3: with two ranks the shares are uneven, and a blank row makes up for it.
    algorithm = {**METHODS[name]["algorithm"], "steps": 2, "batch_size": 7}
    stage = {**METHODS[name], "algorithm": algorithm, "model": str(base), "optimizer": {"lr": 1e-3, "eps": 1e-4}}
    return changed(single(stage, data__num_candidates=3), changes)


@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.parametrize("name", METHODS)
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
            if key == "preference/accuracy" and abs(row["preference/margin"]) < 1e-5:
                continue  # the policy is still the reference: rounding decides who is ahead
            if not key.startswith("time"):
                assert other[key] == pytest.approx(row[key], rel=1e-4, abs=1e-5), key
