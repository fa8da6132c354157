"""A small model learns to follow instructions by GRPO with the reward `ifeval`, and rows it cannot read are counted."""

from __future__ import annotations

import json
import random
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf_ifeval import registration

WORDS = "write a story about war and peace of cats or dogs".split()
INSTRUCTIONS = {
    "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
    "kwargs": [{}, {"keywords": ["cats"]}],
}
UNREADABLE = {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keyword": "cats"}]}
MODEL = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "context": 32, "tokenizer": {"type": "words"}}


def row(seed: int, columns: dict[str, Any]) -> dict[str, Any]:
    draw = random.Random(seed)
    return {
        "prompt": " ".join(draw.sample(WORDS, 4)),
        "completion": " ".join(draw.choices([*WORDS, ","], k=6)),
        **columns,
    }


def recipe(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Installed, the package is found by its entry point; from a checkout, by its file."""
    installed = any(point.value == "rlhf_ifeval.registration" for point in entry_points(group="rlhf"))
    grpo = {"type": "grpo", "steps": 8, "prompts_per_step": 12, "samples_per_prompt": 8, "minibatch_size": 96}
    return {
        "name": "ifeval",
        "plugins": {"paths": [] if installed else [str(Path(registration.__file__))]},
        "runtime": {"type": "inline", "threads": 1},
        "trackers": [],
        "defaults": {"data": {"type": "rows", "rows": rows}, "held_out_rows": 0, "optimizer": {"lr": 1e-2}},
        "stages": {
            "sft": {"algorithm": {"type": "sft", "steps": 5, "batch_size": 8}, "model": {"new": MODEL}},
            "grpo": {
                "algorithm": grpo,
                "model": "stage:sft",
                "reward": [{"type": "ifeval", "on_error": "drop"}],
                "monitor": ["ifeval_helpful"],
                "rollout": {"max_tokens": 6},
            },
        },
    }


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    folder = tmp_path_factory.mktemp("ifeval") / "run"
    rows = [row(seed, INSTRUCTIONS) for seed in range(23)]
    rlhf.train(recipe([*rows, row(99, UNREADABLE)]), out=folder)
    return [json.loads(line) for line in (folder / "grpo" / "metrics.jsonl").read_text().splitlines()]


def test_the_policy_learns_to_follow_instructions(metrics: list[dict[str, float]]) -> None:
    first, last = metrics[0]["reward/mean"], metrics[-1]["reward/mean"]
    assert last > first + 0.1, f"{first:.3f} -> {last:.3f}"


def test_samples_of_an_unreadable_row_are_counted_and_left_out(metrics: list[dict[str, float]]) -> None:
    assert sum(step["reward/failed"] for step in metrics) > 0
    assert all(step["reward/failed"] in (0, 8) for step in metrics)
