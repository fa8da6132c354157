"""A method from outside the package, in one short file, trains like a built-in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, assert_same_weights, single


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer at all."""
    sft = {
        "algorithm": {"type": "sft", "steps": 60, "batch_size": 32},
        "model": {"new": MODEL},
        "optimizer": {"lr": 1e-2},
    }
    return rlhf.train(single(sft, data__num_demonstrations=2000), out=tmp_path_factory.mktemp("base") / "run")


def guest(base: RunResult, plugins: Path, reward: str, **changes: Any) -> Recipe:
    stage = {
        "plugins": {"paths": [str(plugins / "moving_baseline.py"), str(plugins / "brevity.py")]},
        "algorithm": {"type": "moving_baseline", "steps": 60, "prompts_per_step": 48},
        "model": str(base.model),
        "reward": reward,
        "optimizer": {"lr": 6e-3},
        "rollout": {"max_tokens": 12},
    }
    return single(stage, **changes)


def test_it_is_short(repo_root: Path) -> None:
    lines = (repo_root / "plugins" / "moving_baseline.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 60


def test_it_learns_what_is_rewarded_and_nothing_from_nothing(base: RunResult, repo_root: Path, tmp_path: Path) -> None:
    lengths = {}
    for reward in ("brevity", "constant"):
        run = rlhf.train(guest(base, repo_root / "plugins", reward), out=tmp_path / reward)
        rows = run.metrics
        lengths[reward] = [sum(row["rollout/length"] for row in part) / 3 for part in (rows[:3], rows[-3:])]
    assert lengths["brevity"][1] < 0.6 * lengths["brevity"][0]
    assert lengths["constant"][1] == pytest.approx(lengths["constant"][0], rel=0.25)


def test_its_state_survives_a_restart(base: RunResult, repo_root: Path, tmp_path: Path) -> None:
    recipe = guest(base, repo_root / "plugins", "brevity", algorithm__steps=4, checkpoint={"every": 2})
    whole = rlhf.train(recipe, out=tmp_path / "whole")
    cut = tmp_path / "cut"
    stopping = tmp_path / "stop.py"
    stopping.write_text(
        "import os, signal\nfrom rlhf import hookimpl\n@hookimpl\ndef on_step_end(step, metrics):\n"
        "    if step == 2 and not os.environ.get('GO_ON'):\n        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    recipe["plugins"]["paths"].append(str(stopping))
    with pytest.raises(rlhf.errors.Interrupted):
        rlhf.train(recipe, out=cut)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GO_ON", "1")
        resumed = rlhf.train(recipe, out=cut, resume=True)
    assert_same_weights(whole.model, resumed.model)
    assert resumed.metrics[-1]["reward/baseline"] == whole.metrics[-1]["reward/baseline"]
