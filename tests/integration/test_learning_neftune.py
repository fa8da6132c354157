"""SFT learns through NEFTune's noise, not through noise that drowns the words, and the run's seed decides it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import DATA, MODEL, assert_same_weights, changed, single, weights_of


def sft(out: Path, alpha: float, **changes: Any) -> RunResult:
    stage = {
        "algorithm": {"type": "sft", "steps": 60, "batch_size": 16, "neftune_alpha": alpha},
        "model": {"new": MODEL},
        "optimizer": {"lr": 1e-2},
    }
    recipe = single(stage, data={**DATA, "num_demonstrations": 2000, "num_held_out": 60}, held_out_rows=60)
    return rlhf.train(changed(recipe, changes), out=out)


def losses(run: RunResult) -> tuple[float, float]:
    held_out = run.summary["stages"][-1]["held_out"]
    return held_out["before"]["loss"]["mean"], held_out["after"]["loss"]["mean"]


def test_it_learns_with_noise_but_not_when_nothing_else_is_left(tmp_path: Path) -> None:
    before, after = losses(sft(tmp_path / "noised", 5.0))
    assert after < before - 3.0
    before, after = losses(sft(tmp_path / "drowned", 1e5))
    assert after > before - 2.0  # how often each word comes is all there is to learn


def test_the_same_seed_gives_the_same_weights_and_noise_changes_them(tmp_path: Path) -> None:
    steps = {"algorithm.steps": 3}
    one, other = (sft(tmp_path / name, 5.0, **steps) for name in ("one", "other"))
    assert_same_weights(one.model, other.model)
    plain, noised = weights_of(sft(tmp_path / "plain", 0.0, **steps).model), weights_of(one.model)
    assert any(not (plain[name] == noised[name]).all() for name in plain)
