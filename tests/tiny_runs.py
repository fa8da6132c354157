"""Recipes small enough for a test: a one-layer model on a few rows of the embedded world, seconds a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

Recipe = dict[str, Any]

MODEL: Recipe = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "context": 64,
    "tokenizer": {"type": "words", "vocab_size": 600},
}
DATA: Recipe = {
    "type": "pocket",
    "num_prompts": 60,
    "num_demonstrations": 240,
    "num_rankings": 120,
    "num_held_out": 12,
}
SFT: Recipe = {
    "algorithm": {"type": "sft", "steps": 4, "batch_size": 8},
    "model": {"new": MODEL},
    "optimizer": {"lr": 1e-2},
}
REWARD: Recipe = {
    "algorithm": {"type": "reward_model", "steps": 4, "batch_size": 8},
    "model": "stage:sft",
    "optimizer": {"lr": 3e-3},
}
PPO: Recipe = {
    "algorithm": {
        "type": "ppo",
        "steps": 3,
        "prompts_per_step": 8,
        "samples_per_prompt": 2,
        "minibatch_size": 8,
        "epochs": 2,
    },
    "model": "stage:sft",
    "reward_model": "stage:reward",
    "optimizer": {"lr": 1e-3},
    "rollout": {"max_tokens": 8},
}
PPO_LAGRANGIAN: Recipe = {
    **PPO,
    "algorithm": {**PPO["algorithm"], "type": "ppo_lagrangian", "cost_limit": 2.0, "cost_decay": 0.5},
    "cost": [{"type": "num_tokens", "free": 2}, {"type": "graded", "grader": "pocket_harmless", "invert": True}],
}
RAFT: Recipe = {
    "algorithm": {"type": "raft", "steps": 2, "prompts_per_step": 8, "samples_per_prompt": 4, "minibatch_size": 4},
    "model": "stage:sft",
    "reward": "pocket_gold",
    "optimizer": {"lr": 1e-3},
    "rollout": {"max_tokens": 8},
}
DPO: Recipe = {
    "algorithm": {"type": "dpo", "steps": 3, "batch_size": 8},
    "model": "stage:sft",
    "optimizer": {"lr": 3e-3},
}
KTO: Recipe = {**DPO, "algorithm": {"type": "kto", "steps": 3, "batch_size": 8}}
ORPO: Recipe = {**DPO, "algorithm": {"type": "orpo", "steps": 3, "batch_size": 8}}
ONLINE_DPO: Recipe = {
    "algorithm": {"type": "online_dpo", "steps": 3, "prompts_per_step": 8, "minibatch_size": 4},
    "model": "stage:sft",
    "reward": "num_tokens",
    "optimizer": {"lr": 1e-3},
    "rollout": {"max_tokens": 8},
}
GRPO: Recipe = {
    "algorithm": {
        "type": "grpo",
        "steps": 3,
        "prompts_per_step": 6,
        "samples_per_prompt": 4,
        "minibatch_size": 12,
        "dual_clip": 3.0,
    },
    "model": "stage:sft",
    "reward_model": "stage:reward",
    "optimizer": {"lr": 1e-3},
    "rollout": {"max_tokens": 8},
}
REMAX: Recipe = {
    "algorithm": {"type": "remax", "steps": 2, "prompts_per_step": 8, "minibatch_size": 8},
    "model": "stage:sft",
    "reward": "pocket_gold",
    "optimizer": {"lr": 1e-3},
    "rollout": {"max_tokens": 8},
}


def pipeline(runtime: str = "inline", **changes: Any) -> Recipe:
    """SFT, reward model, PPO on the embedded world; `changes` are dotted keys with `__` for the dot."""
    recipe: Recipe = {
        "name": "tiny",
        "trackers": [],
        "runtime": {"type": runtime, "threads": 1},
        "defaults": {"data": DATA, "held_out_rows": 8, "engine": {"type": "torch"}},
        "stages": {"sft": SFT, "reward": REWARD, "ppo": PPO},
    }
    return changed(recipe, {key.replace("__", "."): value for key, value in changes.items()})


def single(stage: Mapping[str, Any], runtime: str = "inline", **changes: Any) -> Recipe:
    """One stage on its own."""
    recipe: Recipe = {
        "name": "tiny",
        "trackers": [],
        "runtime": {"type": runtime, "threads": 1},
        "data": DATA,
        "held_out_rows": 8,
        "engine": {"type": "torch"},
        **stage,
    }
    return changed(recipe, {key.replace("__", "."): value for key, value in changes.items()})


def changed(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> Recipe:
    """A copy with the values at dotted keys replaced, by copies: a later key may reach into the value of an earlier."""
    result: Recipe = copy.deepcopy(dict(recipe))
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = result
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = copy.deepcopy(value)
    return result


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model folder."""
    return {name: tensor for file in sorted(model.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def assert_same_weights(one: Path, other: Path) -> None:
    """Two model folders hold the same numbers, bit for bit."""
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys()
    assert mine, f"no weights in {one}"
    differing = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    assert not differing, f"{len(differing)} of {len(mine)} tensors differ, first {differing[0]}"
