"""Methods learn in seconds what they are asked to learn, and a control does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, changed, single

SHORT = '''
from rlhf import hookimpl


def brevity(prompts, completions, **columns):
    """Fewer words are better."""
    return [-float(len(text.split())) for text in completions]


@hookimpl
def register_rewards(register):
    register("brevity", brevity)
'''
LONG = SHORT.replace("-float", "float").replace("brevity", "wordy")
WORD = '''
def says_river(completions):
    """The share of words that are the word."""
    return [sum(w == "river" for w in text.split()) / max(1, len(text.split())) for text in completions]
'''
CLEAN = {"type": "pocket", "num_prompts": 120, "num_demonstrations": 4000, "num_rankings": 4000, "num_held_out": 150}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer at all."""
    sft = {
        "algorithm": {"type": "sft", "steps": 80, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2},
    }
    recipe = single(sft, data=CLEAN, held_out_rows=100)
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("base") / "run")


def held_out(run: RunResult, label: str, name: str) -> dict[str, float]:
    figures: dict[str, float] = run.summary["stages"][-1]["held_out"][label][name]
    return figures


def test_sft_lowers_the_loss_on_held_out_rows(base: RunResult) -> None:
    before, after = (held_out(base, label, "loss") for label in ("before", "after"))
    assert after["high"] < before["low"] - 3.0
    losses = [row["policy/loss"] for row in base.metrics]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_reward_model_learns_clean_rankings_and_beats_length(base: RunResult, tmp_path: Path) -> None:
    recipe = single(
        {
            "algorithm": {"type": "reward_model", "steps": 120, "batch_size": 32},
            "model": str(base.model),
            "optimizer": {"lr": 3e-3},
        },
        data={**CLEAN, "label_noise": 0.0, "mistake_share": 0.0},
        held_out_rows=150,
    )
    run = rlhf.train(recipe, out=tmp_path / "run")
    before, after, longer = (
        held_out(run, label, name)
        for label, name in (("before", "accuracy"), ("after", "accuracy"), ("after", "accuracy_longer_wins"))
    )
    assert before["low"] < 0.6
    assert after["mean"] > 0.75
    assert after["low"] > longer["high"]


def test_rankings_of_more_than_two_are_learned_too(base: RunResult, tmp_path: Path) -> None:
    recipe = single(
        {
            "algorithm": {"type": "reward_model", "steps": 60, "batch_size": 16, "centring": 0.01},
            "model": str(base.model),
            "optimizer": {"lr": 3e-3},
        },
        data={**CLEAN, "num_candidates": 4, "label_noise": 0.0},
        held_out_rows=100,
    )
    run = rlhf.train(recipe, out=tmp_path / "run")
    assert held_out(run, "after", "accuracy")["low"] > held_out(run, "before", "accuracy")["high"]


# --- PPO -------------------------------------------------------------------------------------------------------------


def ppo(base: RunResult, **changes: Any) -> Recipe:
    stage = {
        "algorithm": {
            "type": "ppo",
            "steps": 20,
            "prompts_per_step": 32,
            "samples_per_prompt": 2,
            "minibatch_size": 32,
            "epochs": 2,
            "kl_coef": 0.01,
        },
        "model": str(base.model),
        "optimizer": {"lr": 2e-3},
        "rollout": {"max_tokens": 12},
        "monitor": ["pocket_helpful", "pocket_honest", "pocket_harmless"],
    }
    return changed(single(stage, data=CLEAN, held_out_rows=120), changes)


def lengths(run: RunResult) -> tuple[float, float]:
    """Words of a completion in the first steps, and in the last."""
    rows = run.metrics
    return tuple(sum(row["rollout/length"] for row in part) / len(part) for part in (rows[:2], rows[-3:]))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def control(base: RunResult, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The same with a reward that says nothing."""
    return rlhf.train(ppo(base, reward="constant"), out=tmp_path_factory.mktemp("control") / "run")


def one_file(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def test_a_one_file_plugin_decides_what_is_learned(base: RunResult, control: RunResult, tmp_path: Path) -> None:
    short = rlhf.train(
        ppo(base, reward="brevity", plugins={"paths": [one_file(tmp_path, "brevity", SHORT)]}), out=tmp_path / "short"
    )
    long = rlhf.train(
        ppo(base, reward="wordy", plugins={"paths": [one_file(tmp_path, "wordy", LONG)]}), out=tmp_path / "long"
    )
    start, unchanged = lengths(control)
    assert lengths(short)[1] < 0.6 * start
    assert lengths(long)[1] > 1.4 * start
    assert unchanged == pytest.approx(start, rel=0.25)
    before, after = (held_out(short, label, "reward") for label in ("before", "after"))
    assert after["low"] > before["high"]


def test_a_word_that_is_rewarded_is_said(base: RunResult, tmp_path: Path) -> None:
    reward = one_file(tmp_path, "word", WORD) + ":says_river"
    run = rlhf.train(ppo(base, reward=reward, **{"algorithm.steps": 30}), out=tmp_path / "run")
    before, after = (held_out(run, label, "reward")["mean"] for label in ("before", "after"))
    assert before < 0.1
    assert after > 0.5


def test_a_lora_policy_learns_against_itself_with_the_adapter_off(base: RunResult, tmp_path: Path) -> None:
    recipe = ppo(
        base,
        reward="brevity",
        plugins={"paths": [one_file(tmp_path, "brevity", SHORT)]},
        model={"path": str(base.model), "lora": {"rank": 8}},
        **{"optimizer.lr": 1e-2},
    )
    run = rlhf.train(recipe, out=tmp_path / "run")
    start, end = lengths(run)
    assert end < 0.75 * start
    kl = [row["policy/kl_to_reference"] for row in run.metrics]
    assert kl[0] == pytest.approx(0.0, abs=1e-4)
    assert kl[-1] > 0.05


def test_with_a_constant_reward_nothing_is_learned(control: RunResult) -> None:
    """Gold scores of the rollouts stay where they were, within their noise, and the policy where it was."""
    rows = control.metrics
    for axis in ("helpful", "honest", "harmless"):
        first, last = ([row[f"gold/{axis}"] for row in part if f"gold/{axis}" in row] for part in (rows[:5], rows[-5:]))
        drift = sum(last) / len(last) - sum(first) / len(first)
        # About 5 x 21 rollouts on each side: two standard errors of the difference of two shares are at most 0.14.
        assert abs(drift) < 0.14, (axis, drift)
    kl = held_out(control, "after", "kl_to_reference")
    assert abs(kl["mean"]) < 0.5
    assert all(row["reward/mean"] == 0.0 for row in rows)
