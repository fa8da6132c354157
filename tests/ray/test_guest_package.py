"""A package as `rlhf plugins new` makes it, installed beside rlhf: its reward and grader train PPO and GRPO on Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny_runs import GRPO, MODEL, PPO, Recipe, changed, single

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "kind-words"
REWARDS = [
    {"type": NAME, "words": 4},
    {"type": "graded", "grader": {"type": NAME, "min_letters": 2}, "weight": 0.5},
]


def run(*words: str, folder: Path, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the package is installed into, which a Python path then names."""
    pytest.importorskip("setuptools", minversion="70.1")
    folder = tmp_path_factory.mktemp("guest")
    run("rlhf", "plugins", "new", NAME, folder=folder)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run("pip", "install", "-q", *offline, "--target", str(folder / "site"), str(folder / f"rlhf-{NAME}"), folder=folder)
    return folder / "site"


def recipe(stage: dict[str, Any]) -> Recipe:
    """Two workers train, one writes; nothing of the recipe is the guest's but its parts' names."""
    given = {**stage, "model": {"new": MODEL}, "reward_model": None, "reward": REWARDS, "monitor": [NAME]}
    workers = {role: {"num": 2, "cpus": 0.1} for role in ("policy", "reference", *(["value"] * (stage is PPO)))}
    return changed(
        single(given, "ray"), {"algorithm.steps": 2, "held_out_rows": 0, "runtime.workers": workers, "engine": "auto"}
    )


EVERY = pytest.mark.skipif("RLHF_TEST_EVERY_METHOD" not in os.environ, reason="minutes")


@pytest.mark.parametrize(
    "stage", [pytest.param(PPO, id="ppo", marks=EVERY), pytest.param(GRPO, id="grpo", marks=EVERY)]
)
def test_it_trains_on_two_workers(installed: Path, tmp_path: Path, stage: dict[str, Any]) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe(stage)))
    paths = os.pathsep.join([str(installed), str(Path(__file__).resolve().parents[2])])
    shown = json.loads(run("rlhf", "plugins", "list", "--json", folder=tmp_path, PYTHONPATH=paths))
    (mine,) = [plugin for plugin in shown["plugins"] if plugin["name"] == NAME]
    assert mine["error"] is None
    run("rlhf", "train", "run.yaml", "--out", "out", folder=tmp_path, PYTHONPATH=paths)
    steps = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    assert all(0 < step[f"reward/{NAME}"] <= 1 and step["reward/failed"] == 0 for step in steps)
    assert any("reward/graded" in step and "gold/helpful" in step for step in steps)  # of prompts of its axis
