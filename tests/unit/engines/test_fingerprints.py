"""Fingerprints of both sides agree after a hand-over, whatever the model, its adapters and its format."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.fingerprints import NUM_SAMPLED, fingerprints_of, places
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.runtime.handover import Handover
from tests.unit.engines.broken_handovers import grow_adapters
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood


def trained(path: str, dtype: Any = "auto", lora: LoraConfig | None = None) -> TorchEngine:
    model = ModelConfig(path=path, dtype=dtype, lora=lora)
    trainer = TorchEngine(TorchConfig(), RoleSpec(role="policy", model=model, optimizer=OptimizerConfig(lr=0.05)))
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    return trainer


def silent(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize("numel", [1, 2, 63, 64, 65, 1000, 10_000_019])
def test_places_are_spread_over_the_whole_weight(numel: int) -> None:
    at = places(numel).tolist()
    assert len(at) == min(numel, NUM_SAMPLED)
    assert at == sorted(set(at))
    assert (at[0], at[-1]) == (0, numel - 1)
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapted", [False, True])
def test_both_sides_agree_after_a_hand_over(model_path: Any, family: str, dtype: Any, adapted: bool) -> None:
    lora = LoraConfig(rank=4) if adapted else None
    trainer = trained(model_path(family), dtype, lora)
    if adapted:
        grow_adapters(trainer)
    engine = TransformersRollout(TransformersRolloutConfig(), ModelConfig(path=model_path(family), dtype=dtype))
    before = engine.fingerprints()
    Handover(silent)(trainer, engine, 1)
    assert engine.fingerprints() != before
    formats = {tensor.dtype for _, tensor in trainer.weights() if tensor.is_floating_point()}
    assert formats == {getattr(torch, dtype)}
    assert {f.dtype for f in trainer.fingerprints().values()} >= {f"torch.{dtype}"}
    assert any(f.merged for f in trainer.fingerprints().values()) is adapted


def test_they_are_told_of_the_weights_as_they_are_handed_on(model_path: Any) -> None:
    trainer = trained(model_path("llama-tied"), "bfloat16")
    assert trainer.fingerprints() == fingerprints_of(trainer.weights())
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= trainer.fingerprints().keys()


def test_a_scalar_and_an_empty_weight_have_one() -> None:
    told = fingerprints_of([("a", torch.tensor(3.0)), ("b", torch.zeros(0, 4)), ("c", torch.arange(3))])
    assert [f.values for f in told.values()] == [(3.0,), (), (0.0, 1.0, 2.0)]
    assert fingerprints_of([]) == {}
