"""GRPO and its relatives, RLOO, REINFORCE++ and ReMax learn in seconds what is rewarded, and from nothing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, changed, single, weights_of

DATA = {"type": "pocket", "num_prompts": 120, "num_demonstrations": 4000, "num_rankings": 0, "num_held_out": 90}
BREVITY = '''
def brevity(completions):
    """Fewer words are better."""
    return [-float(len(text.split())) for text in completions]
'''
GROUPS = {"steps": 12, "prompts_per_step": 12, "samples_per_prompt": 4, "minibatch_size": 24}
GRPO = {"type": "grpo", **GROUPS, "kl_coef": 0.0}
ALONE = {"steps": 12, "prompts_per_step": 48, "minibatch_size": 24, "kl_coef": 0.01}

METHODS: dict[str, dict[str, Any]] = {
    "grpo": {**GRPO, "kl_coef": 0.01},
    "dr_grpo": {**GRPO, "divide_by_std": False, "aggregation": "sequence_sum", "loss_length": 12},
    "dapo": {
        **GRPO,
        "clip_high": 0.28,
        "aggregation": "token_mean",
        "max_sampling_rounds": 2,
        "overlong": {"max_length": 12, "buffer": 4},
    },
    "gspo": {**GRPO, "ratio": "sequence_mean", "clip_low": 0.03, "clip_high": 0.04},
    "cispo": {**GRPO, "surrogate": "cispo", "clip_low": 1.0, "clip_high": 1.0, "aggregation": "prompt_mean"},
    "rloo": {"type": "rloo", **GROUPS, "kl_coef": 0.01},
    "reinforce_pp": {"type": "reinforce_pp", **ALONE},
    "reinforce_pp_baseline": {
        "type": "reinforce_pp",
        **GROUPS,
        "baseline": "group",
        "kl_coef": 0.01,
        "kl_penalty": "k2_in_loss",
    },
    "remax": {"type": "remax", **ALONE},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer at all."""
    sft = {
        "algorithm": {"type": "sft", "steps": 80, "batch_size": 32},
        "model": {"new": {**MODEL, "hidden_size": 64}},
        "optimizer": {"lr": 1e-2},
    }
    return rlhf.train(single(sft, data=DATA, held_out_rows=0), out=tmp_path_factory.mktemp("base") / "run")


def recipe(base: RunResult, algorithm: dict[str, Any], **changes: Any) -> Recipe:
    stage = {
        "algorithm": algorithm,
        "model": str(base.model),
        "optimizer": {"lr": 2e-3},
        "rollout": {"max_tokens": 12},
    }
    return changed(single(stage, data=DATA, held_out_rows=90), changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_to_be_brief(base: RunResult, name: str, tmp_path: Path) -> None:
    """Held-out answers get shorter, by more than their noise and by a third at least."""
    plugin = tmp_path / "short.py"
    plugin.write_text(BREVITY)
    run = rlhf.train(recipe(base, METHODS[name], reward=f"{plugin}:brevity"), out=tmp_path / "run")
    before, after = (run.summary["stages"][-1]["held_out"][label]["reward"] for label in ("before", "after"))
    assert after["low"] > before["high"]
    assert after["mean"] > 0.67 * before["mean"]


@pytest.mark.parametrize("name", METHODS)
def test_from_a_constant_reward_nothing_is_learned(base: RunResult, name: str, tmp_path: Path) -> None:
    algorithm = {key: value for key, value in METHODS[name].items() if key != "overlong"} | {"steps": 3}
    run = rlhf.train(recipe(base, algorithm, reward="constant"), out=tmp_path / "run")
    before, after = weights_of(base.model), weights_of(run.model)
    assert all(tensor.allclose(before[key], atol=1e-6) for key, tensor in after.items())
    assert all(row["reward/mean"] == 0 for row in run.metrics)


def test_a_high_price_of_kl_holds_the_policy_where_it_was(base: RunResult, tmp_path: Path) -> None:
    """The same reward that shortens answers leaves them alone once a nat of KL costs more than words do."""
    plugin = tmp_path / "short.py"
    plugin.write_text(BREVITY)
    free, dear = (
        rlhf.train(
            recipe(base, {**METHODS["rloo"], "kl_coef": coef}, reward=f"{plugin}:brevity"), out=tmp_path / str(coef)
        ).summary["stages"][-1]["held_out"]["after"]
        for coef in (0.01, 3.0)
    )
    assert dear["kl_to_reference"]["mean"] < 0.3 * free["kl_to_reference"]["mean"]
    assert dear["reward"]["mean"] < free["reward"]["low"]
