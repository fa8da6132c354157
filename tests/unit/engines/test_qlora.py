"""Adapters on a base of four bits: what is handed on, written and referred to is what was trained with."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.deepspeed_engine import DeepSpeedEngine
from rlhf.engines.quantized import is_quantized
from rlhf.engines.settings import DeepSpeedConfig, TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import ConfigError
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood, SquaredError

LENGTHS = [9, 3, 12, 4]


def spec(path, role="policy", dtype="auto", **lora):
    model = ModelConfig(path=path, lora=LoraConfig(rank=4, quantize="nf4", **lora), dtype=dtype)
    return RoleSpec(role=role, model=model, optimizer=OptimizerConfig(lr=0.02))


def trained(path, **options):
    policy = TorchEngine(TorchConfig(), spec(path, **options))
    losses = [policy.train_step(make_batch(LENGTHS), Likelihood())["policy/loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    return policy


def plain(path, role="reference"):
    return TorchEngine(TorchConfig(), RoleSpec(role=role, model=ModelConfig(path=path)))


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_linear_layers_are_held_in_four_bits_and_nothing_else(model_path, family):
    policy = trained(model_path(family))
    frozen = {name: p for name, p in policy.model.named_parameters() if ".lora_" not in name}
    linear = {name for name in frozen if "_proj" in name}
    assert linear
    assert {name for name, p in frozen.items() if is_quantized(p)} == linear
    assert all(
        p.dtype == torch.uint8 and 2 * p.numel() == p.quant_state.shape.numel()
        for name, p in frozen.items()
        if name in linear
    )
    assert {p.dtype for name, p in policy.model.named_parameters() if name not in linear} == {torch.float32}


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_the_export_is_the_trained_model_and_says_nothing_of_four_bits(model_path, tmp_path, family):
    policy = trained(model_path(family))
    policy.export(tmp_path)
    batch = make_batch(LENGTHS)
    merged = plain(str(tmp_path))
    torch.testing.assert_close(merged.forward(batch).logprobs, policy.forward(batch).logprobs, atol=1e-5, rtol=1e-5)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert dict(policy.weights()).keys() == AutoModelForCausalLM.from_pretrained(tmp_path).state_dict().keys()


def test_the_reference_is_the_base_as_it_is_held(model_path, tmp_path):
    untrained, policy = TorchEngine(TorchConfig(), spec(model_path("llama"))), trained(model_path("llama"))
    untrained.export(tmp_path)  # no adapter has moved: what the four bits stand for
    batch = make_batch(LENGTHS)
    base = plain(str(tmp_path)).forward(batch).logprobs
    torch.testing.assert_close(policy.base_forward(batch).logprobs, base, atol=1e-5, rtol=1e-5)
    assert float((base - plain(model_path("llama")).forward(batch).logprobs).abs().max()) > 1e-4


@pytest.mark.parametrize("hand_over", ["merged", "adapter"])
def test_what_is_handed_over_arrives_and_is_proven(model_path, hand_over):
    policy = trained(model_path("llama"), hand_over=hand_over)
    rollout = TransformersRollout(TransformersRolloutConfig(), policy.spec.model)
    rollout.load_weights(policy.weights(), 1)
    told, held = policy.fingerprints(), rollout.fingerprints()
    assert told.keys() == held.keys()
    for name, print_ in told.items():
        assert print_.shape == held[name].shape, name
        torch.testing.assert_close(torch.tensor(print_.values), torch.tensor(held[name].values), atol=1e-6, rtol=1e-6)


def test_saving_and_loading_changes_no_bit(model_path, tmp_path):
    first = trained(model_path("llama"))
    first.save(tmp_path)
    expected = [first.train_step(make_batch(LENGTHS), Likelihood()) for _ in range(2)]
    second = TorchEngine(TorchConfig(), spec(model_path("llama")))
    second.load(tmp_path)
    assert [second.train_step(make_batch(LENGTHS), Likelihood()) for _ in range(2)] == expected


def test_a_scalar_head_stays_whole(model_path, tmp_path):
    value = TorchEngine(TorchConfig(), spec(model_path("llama"), role="value", dtype="bfloat16"))
    losses = [value.train_step(make_batch(LENGTHS), SquaredError())["value/loss"] for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]
    assert value.model.head.weight.dtype == torch.float32
    value = TorchEngine(TorchConfig(), spec(model_path("llama"), role="value"))
    value.export(tmp_path)
    batch = make_batch(LENGTHS)
    again = plain(str(tmp_path), role="value")
    torch.testing.assert_close(again.forward(batch).values, value.forward(batch).values, atol=1e-5, rtol=1e-5)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).score.weight.shape == (1, 32)


def test_it_computes_in_bfloat16_too(model_path):
    policy = trained(model_path("llama"), dtype="bfloat16")
    assert {t.dtype for _, t in policy.weights()} == {torch.bfloat16}


def test_what_cannot_be_is_said(model_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"model\.lora\.quantize: zero_stage 3 cannot cut weights of four bits"):
        DeepSpeedEngine(DeepSpeedConfig(zero_stage=3), spec(model_path("llama")))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ConfigError, match=r"bitsandbytes is not installed; pip install 'rlhf\[qlora\]'"):
        TorchEngine(TorchConfig(), spec(model_path("llama")))
