"""Sampling while the policy learns against sampling and learning in turns: seconds a step, and what is learnt.

    python -m benchmarks.overlap [--steps N] [--out DIR] [--json FILE]

One SFT model of the embedded world, then GRPO on its exact reward, three times from the same weights on Ray actors with
two rollout workers: in turns, one step ahead (`rollout.max_staleness: 1`), and two steps ahead with weights loaded in
flight. Generation bounds it: 16 samples a prompt, of which many groups teach nothing and are left out of the updates.

Printed: medians over the steps but the first, the share of a step spent waiting for samples, the reward over the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlhf

WAYS: dict[str, dict[str, Any]] = {
    "in turns": {},
    "one step ahead": {"rollout.max_staleness": 1},
    "two steps ahead, in flight": {"rollout.max_staleness": 2, "rollout.in_flight_updates": True},
}
POINTS = 8
"""Of the learning curve, each the mean over its part of the run."""

_MODEL = {
    "hidden_size": 96,
    "num_layers": 2,
    "num_heads": 3,
    "mlp_size": 256,
    "context": 64,
    "tokenizer": {"type": "words", "vocab_size": 600},
}
_SHARED: dict[str, Any] = {
    "trackers": [],
    "data": {"type": "pocket", "num_demonstrations": 20000},
    "runtime": {"type": "inline", "threads": 1},
}
SFT: dict[str, Any] = {
    **_SHARED,
    "name": "overlap-sft",
    "algorithm": {"type": "sft", "batch_size": 64, "steps": 300},
    "model": {"new": _MODEL},
    "optimizer": {"lr": 3.0e-3, "schedule": "cosine", "warmup": 0.05},
}


def grpo(model: Path, steps: int) -> dict[str, Any]:
    """The recipe, in turns."""
    algorithm = {
        "type": "grpo",
        "steps": steps,
        "prompts_per_step": 32,
        "samples_per_prompt": 16,
        "minibatch_size": 512,
        "kl_coef": 0.0,
    }
    return {
        **_SHARED,
        "name": "overlap-grpo",
        "algorithm": algorithm,
        "model": str(model),
        "reward": "pocket_gold",
        "rollout": {"max_tokens": 12, "engine": {"type": "transformers", "batch_size": 256}},
        "optimizer": {"lr": 4.0e-4},
        "runtime": {"type": "ray", "threads": 1, "workers": {"rollout": {"num": 2}}},
    }


def summed_up(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one run, from what it logged at each step."""
    later = rows[1:]
    rewards = [row["reward/mean"] for row in rows]
    part = max(1, len(rewards) // POINTS)
    return {
        "seconds_a_step": statistics.median(row["time/step"] for row in later),
        "waiting_share": statistics.median(row["time/generate"] / row["time/step"] for row in later),
        "shares": {
            name: statistics.median(row[f"time/{name}"] for row in later)
            for name in ("generate", "score", "train", "sync")
        },
        "effective_samples": min(row.get("rollout/effective_samples", 1.0) for row in later),
        "curve": [round(statistics.mean(rewards[at : at + part]), 3) for at in range(0, len(rewards), part)],
        "rewards": rewards,
    }


def as_table(found: dict[str, dict[str, Any]]) -> str:
    """One row a way."""
    slowest = found["in turns"]["seconds_a_step"]
    lines = [
        "| sampling | s a step | faster by | waiting | least effective samples | reward, by eighths of the run |",
        "|---|---|---|---|---|---|",
    ]
    for way, run in found.items():
        curve = ", ".join(f"{point:.2f}" for point in run["curve"])
        ratio = slowest / run["seconds_a_step"]
        lines.append(
            f"| {way} | {run['seconds_a_step']:.3f} | {ratio:.2f} | {run['waiting_share']:.0%} | "
            f"{run['effective_samples']:.2f} | {curve} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run all ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--out", type=Path, default=Path("runs/overlap"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    start = rlhf.train(SFT, out=given.out / "sft").model
    recipe = grpo(start, given.steps)
    runs = {way: rlhf.train(recipe, changes, out=given.out / way.replace(" ", "-")) for way, changes in WAYS.items()}
    found = {way: summed_up(run.metrics) for way, run in runs.items()}
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(as_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
