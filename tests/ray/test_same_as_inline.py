"""The same recipe on actors and in one process gives the same weights, bit for bit, at one worker a role."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import assert_same_weights, changed, pipeline, weights_of

EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = ("sft", "reward", "ppo")


@pytest.fixture(scope="module")
def runs(ray_up: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """One pipeline, run both ways."""
    folder = tmp_path_factory.mktemp("runs")
    return {kind: rlhf.train(pipeline(kind), out=folder / kind) for kind in ("inline", "ray")}


@pytest.mark.parametrize("stage", STAGES)
def test_weights_are_equal_to_the_last_bit(runs: dict[str, RunResult], stage: str) -> None:
    inline, ray = (runs[kind].folder / stage / "model" for kind in ("inline", "ray"))
    assert_same_weights(inline, ray)


def test_the_stages_do_change_the_weights(runs: dict[str, RunResult]) -> None:
    """Or else equality would show nothing."""
    before, after = (weights_of(runs["inline"].folder / stage / "model") for stage in ("sft", "ppo"))
    assert any(not before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize("stage", STAGES)
def test_every_figure_of_every_step_is_equal(runs: dict[str, RunResult], stage: str) -> None:
    inline, ray = (
        [
            {name: value for name, value in row.items() if not name.startswith("time")}
            for row in runs[kind].metrics
            if row["stage"] == stage
        ]
        for kind in ("inline", "ray")
    )
    assert inline
    assert inline == ray


def test_held_out_figures_are_equal(runs: dict[str, RunResult]) -> None:
    inline, ray = ([stage["held_out"] for stage in runs[kind].summary["stages"]] for kind in ("inline", "ray"))
    assert all(figures["before"] and figures["after"] for figures in inline)
    assert inline == ray


@pytest.mark.parametrize("hand_over", ["adapter", "merged"] if EVERY else ["adapter"])
def test_a_lora_policy_is_its_own_reference_on_actors_too(
    ray_up: None, runs: dict[str, RunResult], tmp_path: Path, hand_over: str
) -> None:
    sft, reward = (str(runs["inline"].folder / stage / "model") for stage in ("sft", "reward"))
    for kind in ("inline", "ray"):
        model = {"path": sft, "lora": {"rank": 4, "hand_over": hand_over}}
        recipe = changed(pipeline(kind), {"stages.ppo.model": model, "stages.ppo.reward_model": reward})
        recipe["stages"] = {"ppo": recipe["stages"]["ppo"]}
        run = rlhf.train(recipe, out=tmp_path / kind)
        assert max(row["rollout/logprob_gap"] for row in run.metrics) < 1e-5
    assert_same_weights(tmp_path / "inline" / "model", tmp_path / "ray" / "model")
