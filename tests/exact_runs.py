"""Small runs of each method on ZeRO with two processes, whose results must not depend on where they were killed."""

from __future__ import annotations

from pathlib import Path

import rlhf
from tests.tiny_runs import DATA, SFT, Recipe, changed, single

STEPS, KILLED_AFTER = 4, 3
MODEL: Recipe = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "context": 64,
    "tokenizer": {"type": "words", "vocab_size": 400},
}
WORLD: Recipe = {**DATA, "num_prompts": 24, "num_demonstrations": 60, "num_rankings": 30}
LORA: Recipe = {"rank": 2, "dropout": 0.2}
"""The dropout of adapters is what draws random numbers while training."""
SAMPLED: Recipe = {
    "reward": [{"type": "num_tokens", "normalize": "running"}],
    "rollout": {"max_tokens": 6, "max_staleness": 1},
    "held_out_rows": 4,
}
SAMPLING: Recipe = {"steps": STEPS, "prompts_per_step": 4, "samples_per_prompt": 2, "minibatch_size": 4}


def methods(start: str, dtype: str) -> dict[str, Recipe]:
    """Small runs of each method; adapters in all but one, which trains whole weights."""
    adapted: Recipe = {"path": start, "dtype": dtype, "lora": LORA}
    rows: Recipe = {"steps": STEPS, "batch_size": 5}  # two processes cannot share it evenly
    return {
        "sft": {"algorithm": {"type": "sft", **rows}, "model": adapted},
        "reward_model": {"algorithm": {"type": "reward_model", **rows}, "model": adapted},
        "dpo": {"algorithm": {"type": "dpo", **rows}, "model": adapted},
        "ppo": {
            **SAMPLED,
            "algorithm": {"type": "ppo", **SAMPLING, "epochs": 1, "kl_target": 0.01, "kl_horizon": 50},
            "model": adapted,
            "value": {"model": adapted},
        },
        "grpo": {
            **SAMPLED,
            "algorithm": {"type": "grpo", **SAMPLING, "kl_coef": 0.0},
            "model": {"path": start, "dtype": dtype},
        },
    }


def recipe(method: str, stage: int, dtype: str, start: str) -> Recipe:
    """Two processes that train, a checkpoint of every step."""
    trained = "reward" if method == "reward_model" else "policy"
    return changed(
        single({"data": WORLD, "held_out_rows": 4, **methods(start, dtype)[method]}, "ray"),
        {
            "engine": {"type": "deepspeed", "zero_stage": stage, "micro_batch_tokens": 40},
            "optimizer": {"lr": 1e-2, "schedule": "cosine", "warmup": 0.3},
            "runtime.workers": {trained: {"num": 2}},
            "runtime.start_timeout": 400.0,  # of a machine with other work to do
            "checkpoint": {"every": 1, "keep": 1},
        },
    )


CASES = [
    (method, stage, dtype)
    for dtype in ("float32", "bfloat16")
    for stage in (3, 2, 1, 0)
    for method in ("sft", "reward_model", "dpo", "ppo", "grpo")
]


def start_model(folder: Path) -> str:
    """A policy to start from."""
    own = changed(single(SFT), {"model.new": MODEL, "data": WORLD, "held_out_rows": 0})
    return str(rlhf.train(own, out=folder / "run").model)
