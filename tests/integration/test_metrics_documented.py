"""docs/metrics.md explains what runs really log: each figure has a row, and each row is logged by some run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import rlhf
from rlhf.types import Axis
from tests.tiny_runs import DPO, GRPO, KTO, ONLINE_DPO, ORPO, PPO_LAGRANGIAN, RAFT, REMAX, REWARD, SFT, pipeline

# Together these log every figure there is; an algorithm with figures of its own adds a recipe here.
RECIPES = {
    "classic": pipeline(
        stages__ppo__monitor=["pocket_helpful", "pocket_honest", "pocket_harmless"],
        stages__ppo__reward=[{"type": "reward_model"}, {"type": "pocket_gold", "on_error": "drop"}],
    ),
    "raft": pipeline(stages={"sft": SFT, "raft": RAFT}, stages__raft__checkpoint__every=1),
    "groups": pipeline(
        stages={"sft": SFT, "reward": REWARD, "grpo": GRPO},
        stages__grpo__algorithm__correction="token",
        stages__grpo__algorithm__max_drift=0.5,
    ),
    "preferences": pipeline(stages={"sft": SFT, "dpo": DPO, "kto": KTO, "orpo": ORPO, "online_dpo": ONLINE_DPO}),
    "constrained": pipeline(stages={"sft": SFT, "reward": REWARD, "ppo_lagrangian": PPO_LAGRANGIAN}),
    "greedy": pipeline(stages={"sft": SFT, "remax": REMAX}),
    "ahead": pipeline(stages={"sft": SFT, "remax": REMAX}, stages__remax__rollout__max_staleness=1),
}
_NO_METRIC = {"step", "time", "stage", "nonfinite"}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [rlhf.train(recipe, out=folder / name) for name, recipe in RECIPES.items()]
    names = {name for run in runs for row in run.metrics for name in row} - _NO_METRIC
    return {_row_of(name) for name in names}


@pytest.fixture(scope="module")
def rows(repo_root: Path) -> list[str]:
    text = (repo_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


def _row_of(name: str) -> str:
    """Names that a recipe or plugin makes up share a row."""
    area, _, last = name.partition("/")
    if area == "reward" and last.endswith("/errors"):
        return "reward/<part>/errors"
    if area == "gold" and last in get_args(Axis):
        return "gold/<axis>"
    if area == "cost" and last in ("num_tokens", "graded"):
        return "cost/<part>"
    return "reward/<part>" if area == "reward" and last in ("reward_model", "pocket_gold") else name


def test_every_logged_metric_has_a_row(logged: set[str], rows: list[str]) -> None:
    assert sorted(logged - set(rows)) == []


def test_every_row_is_logged_by_a_run(logged: set[str], rows: list[str]) -> None:
    assert sorted(set(rows) - logged) == []


def test_no_metric_has_two_rows(rows: list[str]) -> None:
    assert len(rows) == len(set(rows)) > 30
