"""Encoders and encoder-decoders learn to put back what was taken out of texts, and not out of shuffled ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

import rlhf
from rlhf.pocket.dataset import PocketConfig, PocketDataset
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, single

TEXTS = [
    row
    for _, row in zip(
        range(1500), PocketDataset(PocketConfig(num_demonstrations=2000, bad_share=0)).texts(0), strict=False
    )
]
KINDS = {"masked_lm": "encoder", "span_corruption": "encoder_decoder"}


def run(method: str, out: Path, texts: list[str]) -> RunResult:
    stage: dict[str, Any] = {
        "algorithm": {"type": method, "steps": 120, "batch_size": 32},
        "model": {"new": {**MODEL, "kind": KINDS[method], "num_layers": 2}},
        "optimizer": {"lr": 1e-2, "schedule": "cosine", "warmup": 0.1},
    }
    data = {"type": "rows", "rows": [{"text": text} for text in texts], "held_out": 60}
    return rlhf.train(single(stage, data=data, held_out_rows=60), out=out)


def losses(run: RunResult) -> tuple[float, float]:
    held_out = run.summary["stages"][-1]["held_out"]
    return held_out["before"]["loss"]["mean"], held_out["after"]["loss"]["mean"]


@pytest.mark.parametrize("method", KINDS)
def test_it_learns_what_texts_say_and_not_what_they_do_not(method: str, tmp_path: Path) -> None:
    learned = run(method, tmp_path / "run", TEXTS)
    before, after = losses(learned)
    assert AutoConfig.from_pretrained(learned.model).is_encoder_decoder == (method == "span_corruption")
    shuffler = random.Random(0)
    words = [word for text in TEXTS for word in text.split()]
    shuffler.shuffle(words)
    taken = iter(words)
    nonsense = [" ".join(next(taken) for _ in text.split()) for text in TEXTS]
    _, control = losses(run(method, tmp_path / "control", nonsense))
    assert after < 0.55 * before
    assert after < 0.8 * control
