"""Rewards in actors of their own: what becomes of a broken one is the same as in one process, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from tests.integration.broken_rewards import FILE, SECRET
from tests.tiny_runs import GRPO, MODEL, Recipe, assert_same_weights, changed, single

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SURVIVED = ["raises", "hangs", "exits", "eats_memory", "prints_secrets", "not_a_number", "half_the_rows"]


@pytest.fixture(autouse=True)
def _a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)


def many_broken(folder: Path, runtime: str) -> Recipe:
    """All of them beside a good one, each with a penalty of its own."""
    file = folder / "broken.py"
    file.write_text(FILE)
    shared: dict[str, Any] = {"memory": 0.5, "on_error": "penalty", "max_error_rate": 1.0}
    parts = [
        {"type": f"{file}:{name}", "penalty": -n, "timeout": 1 if name == "hangs" else 60, **shared}
        for n, name in enumerate(SURVIVED)
    ]
    rewards = [{"type": f"{file}:good", "processes": 2}, {"type": f"{file}:forks"}, {"type": f"{file}:talks"}, *parts]
    stage = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": rewards}
    return changed(single(stage, runtime), {"algorithm.steps": 2, "held_out_rows": 0})


def test_runs_with_every_broken_reward_at_once_are_the_same_inline_and_on_ray(ray_up: None, tmp_path: Path) -> None:
    runs = {
        runtime: rlhf.train(many_broken(tmp_path, runtime), out=tmp_path / runtime) for runtime in ("inline", "ray")
    }
    assert_same_weights(tmp_path / "inline" / "model", tmp_path / "ray" / "model")
    for ours, theirs in zip(runs["inline"].metrics, runs["ray"].metrics, strict=True):
        for number, name in enumerate(SURVIVED):
            assert ours[f"reward/{name}"] == theirs[f"reward/{name}"] == -number
            assert ours[f"reward/{name}/errors"] == theirs[f"reward/{name}/errors"] == 24
        assert ours["reward/good"] == theirs["reward/good"] > 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert "a word" in (tmp_path / "ray" / "reward_output" / "talks.log").read_text()
