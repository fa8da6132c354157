"""A run whose weights do not arrive, or whose engines do not agree, stops in its first step and says where to look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import RunError
from tests.tiny_runs import GRPO, SFT, pipeline

RECIPE = pipeline(
    stages={"sft": SFT, "grpo": {key: value for key, value in GRPO.items() if key != "reward_model"}},
    stages__grpo__reward="num_tokens",
    stages__grpo__optimizer__lr=1e-2,
)


def test_a_stale_head_stops_the_run_at_its_first_hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both names of the tied head agree with each other, and with nobody else."""
    whole = TorchEngine.weights
    kept: dict[str, Any] = {}

    def stale(self: TorchEngine) -> Iterator[tuple[str, Any]]:
        for name, tensor in whole(self):
            yield name, kept.setdefault(name, tensor.clone()) if name in _HEAD else tensor

    monkeypatch.setattr(TorchEngine, "weights", stale)
    build = TorchEngine.__init__

    def built(self: TorchEngine, *arguments: Any) -> None:
        build(self, *arguments)
        if self.spec.role == "policy":
            kept.clear()
            list(stale(self))

    monkeypatch.setattr(TorchEngine, "__init__", built)
    message = "^after hand-over 1 of weights, the rollout engine does not hold 2 of the trainer's"
    with pytest.raises(RunError, match=message):
        rlhf.train(RECIPE, out=tmp_path / "run")


_HEAD = ("lm_head.weight", "model.embed_tokens.weight")


def test_engines_that_disagree_stop_the_run_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = TransformersRollout.generate

    def off(self: TransformersRollout, *arguments: Any) -> Any:
        groups = generate(self, *arguments)
        return [[replace(c, logprobs=tuple(x - 0.2 for x in c.logprobs)) for c in group] for group in groups]

    monkeypatch.setattr(TransformersRollout, "generate", off)
    with pytest.raises(
        RunError, match=r"differ by 0\.2 nats a token on the same samples, more than algorithm\.max_log"
    ):
        rlhf.train(RECIPE, out=tmp_path / "run")
    assert not (tmp_path / "run" / "grpo" / "metrics.jsonl").exists()
