"""Adapters handed over apart: they alone travel, they arrive, and samples are those of merged ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines import transformers_rollout
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.engines.weight_loading import load_strictly
from rlhf.errors import RunError
from rlhf.runtime.handover import Handover
from rlhf.types import Prompt, Sampling
from tests.unit.engines.broken_handovers import SPOILT_ADAPTERS, Spoil, Spoilt, grow_adapters, no_adapters
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

PROMPTS = [Prompt(id=str(first), text="", token_ids=(first, 4, 5)) for first in (3, 6, 7)]


def model_of(path: str, dtype: Any = "auto", **lora: Any) -> ModelConfig:
    return ModelConfig(
        path=path, dtype=dtype, lora=LoraConfig(**{"rank": 4, "alpha": 12.0, "hand_over": "adapter", **lora})
    )


def trained(model: ModelConfig) -> TorchEngine:
    trainer = TorchEngine(TorchConfig(), RoleSpec(role="policy", model=model, optimizer=OptimizerConfig(lr=0.01)))
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    grow_adapters(trainer)
    return trainer


def rollout(model: ModelConfig) -> TransformersRollout:
    return TransformersRollout(TransformersRolloutConfig(), model)


def hand_over() -> Handover:
    return Handover(pytest.fail, adapters_apart=True)


def trainers_logprobs(trainer: TorchEngine, prompt: Prompt, tokens: tuple[int, ...]) -> Tensor:
    whole = torch.tensor([prompt.token_ids + tokens])
    real = torch.ones_like(whole, dtype=torch.bool)
    batch = type(make_batch([1]))(tokens=whole, attention_mask=real, response_mask=real)
    return trainer.forward(batch).logprobs[0, len(prompt.token_ids) :]


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "phi", "gemma3"])
def test_the_engine_writes_with_the_adapters_of_each_version(model_path: Any, family: str) -> None:
    trainer = trained(model_of(model_path(family)))
    engine, give = rollout(trainer.spec.model), hand_over()
    for version in (1, 2, 3):
        grow_adapters(trainer)
        give(trainer, engine, version)
        for prompt, (sample,) in zip(PROMPTS, engine.generate(PROMPTS, Sampling(max_tokens=6)), strict=True):
            expected = trainers_logprobs(trainer, prompt, sample.token_ids)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-5, rtol=1e-5)
            assert sample.policy_version == version


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_samples_are_those_of_merged_weights(model_path: Any, dtype: str) -> None:
    apart = model_of(model_path("llama"), dtype)
    merged = model_of(model_path("llama"), dtype, hand_over="merged")
    said = {}
    for model in (apart, merged):
        trainer, engine = trained(model), rollout(model)
        torch.manual_seed(0)
        grow_adapters(trainer)
        Handover(pytest.fail, adapters_apart=model.adapters_apart)(trainer, engine, 1)
        said[model] = [group[0] for group in engine.generate(PROMPTS, Sampling(max_tokens=4))]
    close = 1e-4 if dtype == "float32" else 0.2
    for one, other in zip(*said.values(), strict=True):
        if dtype == "float32":
            assert one.token_ids == other.token_ids
        torch.testing.assert_close(torch.tensor(one.logprobs[:1]), torch.tensor(other.logprobs[:1]), atol=close, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_adapters_travel_once_the_rest_is_there(model_path: Any, dtype: str) -> None:
    trainer = trained(model_of(model_path("llama-tied"), dtype))
    engine = rollout(trainer.spec.model)
    sent: list[list[tuple[str, Tensor]]] = []
    load = engine.load_weights

    def noted(weights: Any, version: int) -> None:
        sent.append(list(weights))
        load(iter(sent[-1]), version)

    engine.load_weights = noted  # type: ignore[method-assign]
    give = hand_over()
    for version in (1, 2, 3):
        grow_adapters(trainer)
        give(trainer, engine, version)
    names = [[name for name, _ in weights] for weights in sent]
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"} < set(names[0])
    assert names[1] == names[2] == [name for name in names[0] if ".lora_" in name]
    assert len(names[1]) == 2 * 7 * 2
    assert {tensor.dtype for weights in sent for _, tensor in weights} == {getattr(torch, dtype)}
    assert trainer.fingerprints().keys() == engine.fingerprints().keys() == set(names[0])
    assert not any(f.merged for f in trainer.fingerprints().values())


@pytest.mark.parametrize(("spoil", "message"), SPOILT_ADAPTERS)
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_spoilt_is_named_at_once(model_path: Any, spoil: Spoil, message: str, version: int) -> None:
    trainer = trained(model_of(model_path("llama")))
    engine, give = rollout(trainer.spec.model), hand_over()
    for done in range(1, version):
        give(trainer, engine, done)
    with pytest.raises(RunError, match=message):
        give(Spoilt(trainer, spoil), engine, version)


def test_adapters_that_never_leave_are_named(model_path: Any) -> None:
    trainer = trained(model_of(model_path("llama")))
    with pytest.raises(
        RunError, match=r"did not send 28 weights .* such as 'model\.layers\.0\.[a-z_.]+\.lora_A\.weight'"
    ):
        hand_over()(Spoilt(trainer, no_adapters), rollout(trainer.spec.model), 1)


def test_adapters_that_do_not_arrive_are_named(model_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trained(model_of(model_path("llama")))

    def base_alone(network: Any, weights: Any) -> None:
        old = {name: parameter.clone() for name, parameter in network.named_parameters() if ".lora_" in name}
        load_strictly(network, weights)
        network.load_state_dict(old, strict=False)

    monkeypatch.setattr(transformers_rollout, "load_strictly", base_alone)
    with pytest.raises(
        RunError, match=r"hold 28 of the trainer's 49 weights, first 'model\.layers\.0\.[a-z_.]+\.lora_A"
    ):
        hand_over()(trainer, rollout(trainer.spec.model), 1)


def test_adapters_of_the_last_version_are_named(model_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trained(model_of(model_path("llama")))
    engine, give = rollout(trainer.spec.model), hand_over()
    give(trainer, engine, 1)
    grow_adapters(trainer)
    monkeypatch.setattr(transformers_rollout, "load_strictly", lambda network, weights: list(weights))
    with pytest.raises(
        RunError, match=r"first 'model\.layers\.0\.[a-z_.]+lora_B\.weight': what is there is what was there"
    ):
        give(trainer, engine, 2)


def test_weights_beneath_that_differ_are_named_though_they_travel_no_more(model_path: Any) -> None:
    trainer = trained(model_of(model_path("llama")))
    engine, give = rollout(trainer.spec.model), hand_over()
    give(trainer, engine, 1)
    with torch.no_grad():
        engine.network.model.norm.weight.mul_(1.5)
    with pytest.raises(RunError, match=r"hold 1 of the trainer's 49 weights, first 'model\.norm\.weight'"):
        give(trainer, engine, 2)
