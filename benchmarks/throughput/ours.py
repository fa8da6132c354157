"""Our contenders: `rlhf.train` on a recipe, as a user calls it. `python -m benchmarks.throughput.ours TASK FOLDER`

Everything the measure does not fix is left at its default: micro-batches, rollout engine, kernels. Fixed are the batch,
the steps' optimizer, the threads (the peers use every core, so each of our processes may too: they work one after the
other), and that held-out rows are not measured. DPO asks its reference at every step, as TRL does by default.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.throughput.workload import (
    MAX_LENGTH,
    NEW_TOKENS,
    NUM_PROMPTS,
    NUM_SAMPLES,
    PAIRS,
    PPO_PROMPTS,
    SFT_ROWS,
    Workload,
)

MANY = 10_000
"""Steps; the controller ends the run."""

Recipe = dict[str, Any]


def recipe_of(measure: str, workload: Workload, threads: int) -> Recipe:
    """The recipe of a measure, on the inline runtime."""
    stage = STAGES[measure](workload)
    return {
        "name": f"throughput-{measure}",
        "trackers": [],
        "held_out_rows": 0,
        "optimizer": {"lr": 1e-6},
        "model": {"path": str(workload.model), "max_length": MAX_LENGTH},
        "runtime": {"type": "inline", "threads": threads},
        "plugins": {"paths": [str(Path(__file__).with_name("turn_plugin.py"))]},
        **stage,
    }


def _rows(workload: Workload, name: str) -> Recipe:
    return {"type": "files", "path": str(workload.rows(name))}


def _sft(workload: Workload) -> Recipe:
    algorithm = {"type": "sft", "batch_size": SFT_ROWS, "steps": MANY}
    return {"algorithm": algorithm, "data": _rows(workload, "sft")}


def _reward(workload: Workload) -> Recipe:
    algorithm = {"type": "reward_model", "batch_size": PAIRS, "steps": MANY}
    return {"algorithm": algorithm, "data": _rows(workload, "pairs")}


def _dpo(workload: Workload) -> Recipe:
    algorithm = {"type": "dpo", "batch_size": PAIRS, "steps": MANY, "precompute_reference": False}
    return {"algorithm": algorithm, "data": _rows(workload, "pairs")}


def _grpo(workload: Workload) -> Recipe:
    algorithm = {
        "type": "grpo",
        "steps": MANY,
        "prompts_per_step": NUM_PROMPTS,
        "samples_per_prompt": NUM_SAMPLES,
        "minibatch_size": NUM_PROMPTS * NUM_SAMPLES,
        "kl_coef": 0.0,
    }
    return {
        "algorithm": algorithm,
        "data": _rows(workload, "prompts"),
        "reward": "even_words",
        "rollout": {"max_tokens": NEW_TOKENS},
    }


def _ppo(workload: Workload) -> Recipe:
    algorithm = {
        "type": "ppo",
        "steps": MANY,
        "prompts_per_step": PPO_PROMPTS,
        "samples_per_prompt": 1,
        "minibatch_size": PPO_PROMPTS,
        "epochs": 1,
        "kl_coef": 0.05,
        "truncated": "score",
    }
    return {
        "algorithm": algorithm,
        "data": _rows(workload, "distinct"),
        "reward_model": str(workload.reward_model),
        "rollout": {"max_tokens": NEW_TOKENS},
    }


def _rollout(workload: Workload) -> Recipe:
    algorithm = {
        "type": "only_sampling",
        "steps": MANY,
        "prompts_per_step": NUM_PROMPTS,
        "samples_per_prompt": NUM_SAMPLES,
    }
    return {
        "algorithm": algorithm,
        "data": _rows(workload, "prompts"),
        "reward": "even_words",  # a method that samples must name one; it is never asked
        "rollout": {"max_tokens": NEW_TOKENS},
    }


def _handover(workload: Workload) -> Recipe:
    """`model` is the large one."""
    return {
        "algorithm": {"type": "only_handover", "steps": MANY, "prompts_per_step": 1},
        "data": _rows(workload, "prompts"),
        "model": {"path": str(workload.big_model), "max_length": MAX_LENGTH},
        "reward": "even_words",
        "rollout": {"engine": {"type": "transformers"}},
    }


STAGES: dict[str, Callable[[Workload], Recipe]] = {
    "sft": _sft,
    "reward": _reward,
    "dpo": _dpo,
    "grpo": _grpo,
    "ppo": _ppo,
    "rollout": _rollout,
    "handover": _handover,
}


def main(task: str, folder: str) -> None:
    """Train until the controller has had enough; `task` is `{label, measure, threads, rows, overrides}` as JSON."""
    import rlhf

    given = json.loads(task)
    workload = Workload(Path(folder))
    recipe = recipe_of(given["measure"], workload, given["threads"])
    if given["rows"]:
        recipe["data"] = _rows(workload, given["rows"])
    rlhf.train(recipe, given["overrides"], out=workload.folder / "runs" / given["label"])


if __name__ == "__main__":
    main(*sys.argv[1:])
