"""PPO of the last TRL that had it (1.12, from `--peers`), with the turns of `trl_trainers`.

A step is 64 prompts with one sample each: generation, reference, values, rewards, then one epoch over all 64 at once,
as the reference measured it. Its own default is four epochs; bfloat16 and gradient checkpointing are off as elsewhere.
Our side trains on the same prompts, scores cut completions too, and pays the same KL coefficient (0.05).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.throughput.trl_trainers import FIXED, InTurn, policy, rows_of
from benchmarks.throughput.turns import Turns
from benchmarks.throughput.workload import NEW_TOKENS, PPO_PROMPTS, Workload


def trainer_of(workload: Workload, arguments: dict[str, Any], callback: InTurn) -> Any:
    """The trainer with its four models."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(workload.model, padding_side="left")
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows_of(workload, "distinct")]
    fixed = {name: value for name, value in FIXED.items() if name != "max_steps"}
    given = {
        "output_dir": str(workload.folder / "trl"),
        "per_device_train_batch_size": PPO_PROMPTS,
        "local_rollout_forward_batch_size": PPO_PROMPTS,
        "total_episodes": PPO_PROMPTS * FIXED["max_steps"],
        "num_ppo_epochs": 1,
        "num_mini_batches": 1,
        "num_sample_generations": 0,
        "response_length": NEW_TOKENS,
        "stop_token": "eos",
        "temperature": 1.0,
        **arguments,
    }
    return PPOTrainer(
        args=PPOConfig(**(fixed | given)),
        processing_class=tokenizer,
        model=policy(workload),
        ref_model=policy(workload),
        reward_model=_scorer(workload),
        value_model=_scorer(workload),
        train_dataset=Dataset.from_list([{"input_ids": prompt} for prompt in prompts]),
        callbacks=[callback],
    )


def _scorer(workload: Workload) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(workload.reward_model, dtype=torch.float32)


def main(task: str, folder: str) -> None:
    """Train until the controller has had enough, or say that this TRL has no PPO."""
    import trl

    given = json.loads(task)
    turns = Turns.from_environment()
    if not Path(trl.__file__).with_name("experimental").joinpath("ppo").is_dir():
        turns.cannot(f"TRL {trl.__version__} has no PPO; the older one is not in --peers")
        return
    torch.set_num_threads(given["threads"])
    trainer_of(Workload(Path(folder)), given.get("arguments", {}), InTurn(turns, counts_epochs=False)).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
