"""TRL's contenders: its real trainers, with a callback that waits for the turn. Run as `ours` is.

Fixed on both sides: the batch of a step, the optimizer's rate, float32 weights, the longest row, no logging, no saving.
TRL 1.16 itself turns on bfloat16 arithmetic and gradient checkpointing, which suits GPUs; on two cores its float32
without checkpointing was the faster for SFT and is what the reference calls the default, so that is the `default` here
and TRL as shipped is one of the candidates for its best.

Its vLLM mode in one process is a candidate too, and ends at the first hand-over where vLLM runs on CPU: it copies
weights into layers that vLLM has repacked. Its other mode hands weights over by NCCL, and so needs GPUs.

`task` is `{measure, threads, arguments}`: arguments of the trainer's config besides those fixed here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from benchmarks.throughput.even_words import even_words
from benchmarks.throughput.turns import Turns
from benchmarks.throughput.workload import MAX_LENGTH, NEW_TOKENS, NUM_PROMPTS, NUM_SAMPLES, PAIRS, SFT_ROWS, Workload

FIXED: dict[str, Any] = {
    "max_steps": 10_000,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "seed": 1,
}


class InTurn(TrainerCallback):
    """Waits before the first step and after each; the process ends when there are no more turns."""

    def __init__(self, turns: Turns, *, counts_epochs: bool = True) -> None:
        self.turns, self.counts_epochs = turns, counts_epochs
        self.seconds: dict[str, float] = {}
        """Of parts of this step."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self.turns.ready():
            raise SystemExit(0)
        self._began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.counts_epochs and abs((state.epoch or 0) - state.global_step) > 1e-6:
            raise RuntimeError(f"step {state.global_step} ends at epoch {state.epoch}: it had another batch than ours")
        parts = {"time/step": time.perf_counter() - self._began, **self.seconds}
        self.seconds.clear()
        if not self.turns.done(metrics=parts):
            raise SystemExit(0)
        self._began = time.perf_counter()

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Time a method of a trainer as a part of the step."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = original(*args, **kwargs)
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began
            return result

        setattr(owner, method, timed)


def rows_of(workload: Workload, name: str) -> Dataset:
    """The rows of a file, with the length that `group_by_length` sorts by where TRL's own columns have none."""
    rows = [json.loads(line) for line in workload.rows(name).read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list([row | {"length": sum(len(text.split()) for text in row.values())} for row in rows])


def trainer_of(measure: str, workload: Workload, arguments: dict[str, Any], callback: InTurn) -> Any:
    """The trainer of a measure."""
    shared: dict[str, Any] = {
        "args": FIXED | {"output_dir": str(workload.folder / "trl")} | arguments,
        "processing_class": AutoTokenizer.from_pretrained(workload.model),
        "callbacks": [callback],
    }
    trainer = {"sft": _sft, "reward": _reward, "dpo": _dpo, "grpo": _grpo}[measure](workload, shared)
    if measure == "grpo":  # the rest of a step is training
        callback.watch(trainer, "_generate", "time/generate")
        callback.watch(trainer, "_calculate_rewards", "time/score")
    return trainer


def _sft(workload: Workload, shared: dict[str, Any]) -> Any:
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(**{"per_device_train_batch_size": SFT_ROWS, "max_length": MAX_LENGTH, **shared.pop("args")})
    return SFTTrainer(model=policy(workload), args=args, train_dataset=rows_of(workload, "sft"), **shared)


def _reward(workload: Workload, shared: dict[str, Any]) -> Any:
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    args = RewardConfig(**{"per_device_train_batch_size": PAIRS, "max_length": MAX_LENGTH, **shared.pop("args")})
    model = AutoModelForSequenceClassification.from_pretrained(workload.reward_model, dtype=torch.float32)
    return RewardTrainer(model=model, args=args, train_dataset=rows_of(workload, "pairs"), **shared)


def _dpo(workload: Workload, shared: dict[str, Any]) -> Any:
    from trl import DPOConfig, DPOTrainer

    args = DPOConfig(**{"per_device_train_batch_size": PAIRS, "max_length": MAX_LENGTH, **shared.pop("args")})
    return DPOTrainer(model=policy(workload), args=args, train_dataset=rows_of(workload, "pairs"), **shared)


def _grpo(workload: Workload, shared: dict[str, Any]) -> Any:
    """The 8 prompts with 8 samples each are one step; no reference, which is TRL's default too."""
    from trl import GRPOConfig, GRPOTrainer

    given = {
        "per_device_train_batch_size": NUM_PROMPTS * NUM_SAMPLES,
        "num_generations": NUM_SAMPLES,
        "max_completion_length": NEW_TOKENS,
        **shared.pop("args"),
    }
    return GRPOTrainer(
        model=policy(workload),
        args=GRPOConfig(**given),
        reward_funcs=[even_words],
        train_dataset=rows_of(workload, "prompts"),
        **shared,
    )


def policy(workload: Workload) -> Any:
    """The model, float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.float32)


def main(task: str, folder: str) -> None:
    """Train until the controller has had enough."""
    given = json.loads(task)
    torch.set_num_threads(given["threads"])
    callback = InTurn(Turns.from_environment())
    trainer = trainer_of(given["measure"], Workload(Path(folder)), given.get("arguments", {}), callback)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
