"""Our contenders: `rlhf.train` on a recipe, as a user calls it. `python -m benchmarks.throughput.ours NAME TASK FOLDER`

Everything the measure does not fix is left at its default: micro-batches, rollout engine, kernels. Fixed are the batch,
the steps' optimizer, the threads (the peers use every core, so each of our processes may too: they work one after the
other), and that held-out rows are not measured. DPO asks its reference at every step, as TRL does by default.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.throughput.workload import MAX_LENGTH, NEW_TOKENS, NUM_PROMPTS, NUM_SAMPLES, PAIRS, SFT_ROWS, Workload

MANY = 10_000
"""Steps; the controller ends the run."""

Recipe = dict[str, Any]


def recipe_of(measure: str, workload: Workload, threads: int) -> Recipe:
    """The recipe of a measure, on the inline runtime."""
    stage = {"sft": _sft, "reward": _reward, "dpo": _dpo, "grpo": _grpo, "ppo": _ppo}[measure](workload)
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
        "prompts_per_step": NUM_PROMPTS,
        "samples_per_prompt": NUM_SAMPLES,
        "minibatch_size": NUM_PROMPTS * NUM_SAMPLES,
        "epochs": 1,
    }
    return {
        "algorithm": algorithm,
        "data": _rows(workload, "prompts"),
        "reward_model": str(workload.reward_model),
        "rollout": {"max_tokens": NEW_TOKENS},
    }


def main(name: str, task: str, folder: str) -> None:
    """Train until the controller has had enough; `task` is `{measure, threads, overrides}` as JSON."""
    import rlhf

    given = json.loads(task)
    workload = Workload(Path(folder))
    recipe = recipe_of(given["measure"], workload, given["threads"])
    out = workload.folder / "runs" / name.replace(" ", "-")
    rlhf.train(recipe, given.get("overrides"), out=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
