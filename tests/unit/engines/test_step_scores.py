"""Scores at the ends of steps, against transformers' own arithmetic."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlhf.algorithms.process_reward_model import StepLoss
from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig
from rlhf.engines.sharding import shard
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError
from rlhf.types import StepBatch, StepOutput
from tests.unit.engines.families import make_batch

LENGTHS = [9, 3, 12]
ENDS = [(4, 8), (2,), (3, 6, 11)]


def engine(path, heads=(), **config) -> TorchEngine:
    spec = RoleSpec(role="reward", model=ModelConfig(path=str(path)), heads=heads, optimizer=OptimizerConfig(lr=1e-2))
    return TorchEngine(TorchConfig(**config), spec)


def batch() -> StepBatch:
    rows = make_batch(LENGTHS)
    ends = torch.zeros_like(rows.attention_mask)
    for row, places in enumerate(ENDS):
        ends[row, list(places)] = True
    return StepBatch(
        tokens=rows.tokens, attention_mask=rows.attention_mask, response_mask=ends, labels=ends & (rows.tokens % 2 == 0)
    )


@pytest.mark.parametrize("options", [{}, {"micro_batch_tokens": 1}, {"packing": False}])
def test_a_step_is_scored_as_the_text_up_to_its_end(model_path, tmp_path, options) -> None:
    made = engine(model_path("llama"), **options)
    made.export(tmp_path)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    given = shard(batch(), torch.arange(3), 4)  # one blank row
    output = made.forward(given)
    assert isinstance(output, StepOutput)
    for row, places in enumerate(ENDS):
        for end in places:
            with torch.no_grad():
                score = network(given.tokens[row : row + 1, : end + 1]).logits[0, 0]
            torch.testing.assert_close(output.scores[row, end], score, atol=1e-5, rtol=1e-5)
    assert not output.scores[~given.response_mask].any()


def test_steps_are_learned(model_path) -> None:
    made = engine(model_path("llama"), micro_batch_tokens=20)
    losses = [made.train_step(batch(), StepLoss())["reward/loss"] for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


def test_several_heads_are_refused(model_path) -> None:
    with pytest.raises(ConfigError, match="a reward model with 2 heads judges whole completions, not their steps"):
        engine(model_path("llama"), heads=("a", "b")).forward(batch())
