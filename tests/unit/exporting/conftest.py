"""A finished run of three small stages, made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

import rlhf
from tests.tiny_runs import MODEL, REWARD, SFT

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations, in a file."""
    file = tmp_path_factory.mktemp("data") / "talks.jsonl"
    rng = Random(0)
    lines = []
    for _ in range(48):
        asked, answered = (" ".join(rng.choices(WORDS, k=k)) for k in (4, 3))
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        lines.append(json.dumps({"messages": turns}))
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """SFT from random weights, a reward model, and LoRA on top of the first: strong enough to change the logits."""
    data = {"type": "files", "path": str(rows), "held_out": 8}
    tuned = {
        "algorithm": {"type": "sft", "steps": 6, "batch_size": 8},
        "model": {"path": "stage:sft", "lora": {"rank": 4, "alpha": 16}},
        "optimizer": {"lr": 3e-2},
        "data": data,
    }
    recipe = {
        "name": "tiny",
        "trackers": [],
        "runtime": {"type": "inline", "threads": 1},
        "defaults": {"held_out_rows": 8, "engine": {"type": "torch"}},
        "stages": {
            "sft": {**SFT, "model": {"new": {**MODEL, "hidden_size": 64}}, "data": data},
            "reward": {**REWARD, "data": {"type": "rows", "rows": _pairs()}},
            "tuned": tuned,
        },
    }
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("runs") / "tiny").folder


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed. Its adapter names the base it was trained on, which stays where it was."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def _pairs() -> list[dict[str, str]]:
    rng = Random(1)
    return [
        {"prompt": word, "chosen": rng.choice(WORDS), "rejected": f"{rng.choice(WORDS)} {rng.choice(WORDS)}"}
        for word in WORDS * 2
    ]
