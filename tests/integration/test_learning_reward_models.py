"""Reward models of every form learn in seconds what their rows say, and nothing from rows that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, single

DATA: Recipe = {
    "type": "pocket",
    "num_prompts": 120,
    "num_demonstrations": 4000,
    "num_rankings": 4000,
    "num_held_out": 150,
    "num_candidates": 3,
    "label_noise": 0.0,
    "mistake_share": 0.3,
}
COIN_FLIPS = '''
"""The embedded world's rankings in random order; those held out are true."""
import random
from dataclasses import replace

from rlhf import hookimpl
from rlhf.pocket.dataset import PocketConfig, PocketDataset


class CoinFlips(PocketDataset):
    def rankings(self, seed, start=0):
        rng = random.Random(start)
        for ranking in super().rankings(seed, start):
            yield replace(ranking, completions=tuple(rng.sample(ranking.completions, len(ranking.completions))))


@hookimpl
def register_datasets(register):
    register("coin_flips", CoinFlips, config=PocketConfig)
'''


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A language model that has seen answers, good ones and bad."""
    sft = {
        "algorithm": {"type": "sft", "steps": 120, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2},
    }
    return rlhf.train(single(sft, data=DATA), out=tmp_path_factory.mktemp("base") / "run")


def reward_model(base: RunResult, **algorithm: object) -> Recipe:
    return single(
        {
            "algorithm": {"type": "reward_model", "steps": 120, "batch_size": 32, **algorithm},
            "model": str(base.model),
            "optimizer": {"lr": 3e-3},
        },
        data=DATA,
        held_out_rows=150,
    )


def held_out(run: RunResult, label: str, name: str) -> dict[str, float]:
    figures: dict[str, float] = run.summary["stages"][-1]["held_out"][label][name]
    return figures


# --- forms of the loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"loss": "plackett_luce"}, {"loss": "plackett_luce", "label_smoothing": 0.1}, {"label_smoothing": 0.1}],
    ids=["listwise", "listwise-smooth", "pairs-smooth"],
)
def test_rankings_of_three_are_learned(base: RunResult, tmp_path: Path, options: Recipe) -> None:
    run = rlhf.train(reward_model(base, centring=0.01, **options), out=tmp_path / "run")
    # Two of a ranking's three completions are as bad as each other, and which of them comes first is a coin flip: the
    # best possible figure is 5/6.
    assert held_out(run, "before", "accuracy")["high"] < 0.58
    assert held_out(run, "after", "accuracy")["low"] > 0.58


def test_from_rankings_in_random_order_nothing_is_learned(base: RunResult, tmp_path: Path) -> None:
    plugin = tmp_path / "coin_flips.py"
    plugin.write_text(COIN_FLIPS)
    recipe = reward_model(base, loss="plackett_luce")
    recipe["data"] = {**DATA, "type": "coin_flips"}
    run = rlhf.train(recipe | {"plugins": {"paths": [str(plugin)]}}, out=tmp_path / "run")
    assert held_out(run, "after", "accuracy")["low"] < 0.55


# --- costs -----------------------------------------------------------------------------------------------------------


def test_a_cost_model_puts_zero_between_what_is_acceptable_and_what_is_not(base: RunResult, tmp_path: Path) -> None:
    recipe = reward_model(base)
    recipe["algorithm"] = {"type": "cost_model", "steps": 400, "batch_size": 32}
    recipe["optimizer"] = {"lr": 1.5e-3}
    recipe["data"] = {**DATA, "num_candidates": 2, "mistake_share": 0.0, "num_held_out": 450}
    run = rlhf.train(recipe | {"held_out_rows": 400}, out=tmp_path / "run")
    assert held_out(run, "before", "accuracy")["high"] < 0.55
    assert held_out(run, "after", "accuracy")["low"] > 0.65


# --- heads -----------------------------------------------------------------------------------------------------------

HEADS = ["helpful", "honest", "harmless"]


def test_each_head_learns_its_own_axis_and_is_found_again(base: RunResult, tmp_path: Path) -> None:
    recipe = reward_model(base, heads=HEADS)
    recipe["data"] = {**DATA, "num_candidates": 2}
    run = rlhf.train(recipe, out=tmp_path / "run")
    for head in HEADS:
        assert held_out(run, "before", f"accuracy_{head}")["low"] < 0.58
        assert held_out(run, "after", f"accuracy_{head}")["mean"] > 0.6, head
    assert held_out(run, "after", "accuracy")["low"] > 0.62
    # PPO on one of the heads: what it is paid is that head's score, and it comes to be paid more.
    ppo = single(
        {
            "algorithm": {
                "type": "ppo",
                "steps": 40,
                "prompts_per_step": 32,
                "samples_per_prompt": 2,
                "minibatch_size": 32,
                "kl_coef": 0.01,
            },
            "model": str(base.model),
            "reward_model": [str(run.model), str(run.model)],
            "reward": {"type": "reward_model", "heads": {"harmless": 2.0}, "reduce": "min"},
            "optimizer": {"lr": 1e-3},
            "rollout": {"max_tokens": 12},
        },
        data=DATA,
        held_out_rows=100,
    )
    trained = rlhf.train(ppo, out=tmp_path / "ppo")
    before, after = (held_out(trained, label, "reward") for label in ("before", "after"))
    assert after["low"] > before["high"]


# --- steps -----------------------------------------------------------------------------------------------------------


def test_steps_are_told_right_from_wrong_and_a_policy_is_paid_by_its_worst(base: RunResult, tmp_path: Path) -> None:
    recipe = reward_model(base)
    recipe["algorithm"] = {"type": "process_reward_model", "separator": " ", "steps": 200, "batch_size": 32}
    recipe["data"] = {**DATA, "num_candidates": 2, "num_held_out": 450}
    run = rlhf.train(recipe | {"held_out_rows": 300}, out=tmp_path / "run")
    baseline = held_out(run, "after", "accuracy_all_right")
    assert held_out(run, "before", "accuracy")["low"] < max(baseline["high"], 1 - baseline["low"])
    assert held_out(run, "after", "accuracy")["low"] > max(baseline["high"], 1 - baseline["low"]) + 0.05
    ppo = single(
        {
            "algorithm": {
                "type": "ppo",
                "steps": 40,
                "prompts_per_step": 32,
                "samples_per_prompt": 2,
                "minibatch_size": 32,
                "kl_coef": 0.01,
            },
            "model": str(base.model),
            "reward_model": str(run.model),
            "reward": {"type": "process_reward", "over": "min", "separator": " "},
            "optimizer": {"lr": 2e-3},
            "rollout": {"max_tokens": 12},
        },
        data=DATA,
        held_out_rows=100,
    )
    trained = rlhf.train(ppo, out=tmp_path / "ppo")
    before, after = (held_out(trained, label, "reward") for label in ("before", "after"))
    assert after["low"] > before["high"]
    assert all(0 <= row["reward/mean"] <= 1 for row in trained.metrics)
