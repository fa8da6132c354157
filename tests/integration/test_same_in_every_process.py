"""A run is a function of its recipe: not of the hashes of strings, which differ in every process, nor of what else has
drawn random numbers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rlhf
from tests.tiny_runs import DATA, PPO, SFT, Recipe, changed, single
from tests.whole_and_resumed import differences

WORLD: Recipe = {**DATA, "num_prompts": 24, "num_demonstrations": 60, "num_rankings": 30}
TRAIN = """
import json, sys
import rlhf
from rlhf.runtime import pipeline

pipeline.write_report = lambda folder: None
rlhf.train(json.loads(sys.argv[1]), out=sys.argv[2])
"""


@pytest.fixture(autouse=True)
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its curves take longer than such a run."""
    monkeypatch.setattr("rlhf.runtime.pipeline.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    own = changed(single(SFT), {"data": WORLD, "held_out_rows": 0})
    return str(rlhf.train(own, out=tmp_path_factory.mktemp("start") / "run").model)


def constrained(start: str) -> Recipe:
    """Rewards of several parts, monitors, adapters with dropout, groups of prompts: much that is filed by name."""
    adapted = {"path": start, "lora": {"rank": 2, "dropout": 0.2}}
    return changed(
        single({**PPO, "data": WORLD, "held_out_rows": 4}),
        {
            "model": adapted,
            "value": {"model": adapted},
            "reward_model": None,
            "reward": [{"type": "num_tokens", "normalize": "running"}, {"type": "pocket_gold"}],
            "monitor": ["pocket_honest", "pocket_harmless"],
            "checkpoint.every": 1,
        },
    )


def test_no_result_depends_on_the_hashes_of_strings(start: str, tmp_path: Path) -> None:
    recipe = constrained(start)
    there = 1 if hash("a") != int(_told("print(hash('a'))", 1)) else 2
    _told(TRAIN, there, json.dumps(recipe), str(tmp_path / "there"))
    rlhf.train(recipe, out=tmp_path / "here")
    assert differences(tmp_path / "here", tmp_path / "there") == []


def _told(program: str, hash_seed: int, *arguments: str) -> str:
    """What a program says in a process with hashes of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=280,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_no_result_depends_on_what_else_draws_random_numbers(start: str, tmp_path: Path) -> None:
    """Not the dropout of adapters in this process, nor what a guest's method draws in a step."""
    recipe = constrained(start)
    rlhf.train(recipe, out=tmp_path / "one")
    torch.rand(1234)
    random.seed(99)
    rlhf.train(recipe, out=tmp_path / "other")
    assert differences(tmp_path / "one", tmp_path / "other") == []


def test_another_seed_is_another_run(start: str, tmp_path: Path) -> None:
    """Or else the equality above would show nothing."""
    recipe = constrained(start)
    for seed in (0, 1):
        rlhf.train({**recipe, "seed": seed}, out=tmp_path / str(seed))
    assert any("metrics.jsonl" in what for what in differences(tmp_path / "0", tmp_path / "1"))
