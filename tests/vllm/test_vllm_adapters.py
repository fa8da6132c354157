"""Adapters apart on real vLLM: applied, proved in the slot where they lie, and refused where vLLM has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig, VLLMRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError, RunError, UnsupportedModel
from rlhf.runtime.handover import Handover
from rlhf.types import Prompt, Sampling
from tests.unit.engines.broken_handovers import SPOILT_ADAPTERS, Spoil, Spoilt, grow_adapters, no_adapters
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood
from tests.vllm.models import write_gpt2, write_tied_qwen3

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPTS = [Prompt(id=str(first), text="", token_ids=(first, 4, 5)) for first in (3, 6, 7)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tied_qwen3(tmp_path_factory.mktemp("model"))


def model_of(path: str, **lora: Any) -> ModelConfig:
    return ModelConfig(path=path, lora=LoraConfig(**{"rank": 4, "alpha": 12.0, "hand_over": "adapter", **lora}))


def engine_of(model: ModelConfig) -> Any:
    from rlhf.engines.vllm_rollout import VLLMRollout

    return VLLMRollout(VLLMRolloutConfig(), model)


@pytest.fixture(scope="module")
def engine(path: str) -> Any:
    return engine_of(model_of(path))


@pytest.fixture
def trainer(path: str) -> TorchEngine:
    trainer = TorchEngine(
        TorchConfig(), RoleSpec(role="policy", model=model_of(path), optimizer=OptimizerConfig(lr=0.01))
    )
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    grow_adapters(trainer)
    return trainer


def hand_over() -> Handover:
    return Handover(pytest.fail, adapters_apart=True)


def largest_gap(trainer: TorchEngine, engine: Any) -> float:
    """Between the log-probs of both engines, over samples of every prompt."""
    gaps = []
    for prompt, group in zip(PROMPTS, engine.generate(PROMPTS, Sampling(max_tokens=6, num_samples=2)), strict=True):
        for sample in group:
            whole = torch.tensor([prompt.token_ids + sample.token_ids])
            real = torch.ones_like(whole, dtype=torch.bool)
            batch = type(make_batch([1]))(tokens=whole, attention_mask=real, response_mask=real)
            logprobs = trainer.forward(batch).logprobs[0, len(prompt.token_ids) :]
            gaps.append(float((logprobs - torch.tensor(sample.logprobs)).abs().max()))
    return max(gaps)


def test_vllm_writes_with_the_adapters_of_each_version(trainer: TorchEngine, engine: Any) -> None:
    give = hand_over()
    for version in (1, 2, 3):
        grow_adapters(trainer)
        give(trainer, engine, version)
        assert largest_gap(trainer, engine) < 1e-4
        assert engine.version == version
    grow_adapters(trainer)
    assert largest_gap(trainer, engine) > 1e-2, "adapters that do not matter prove nothing"
    assert engine.fingerprints().keys() == trainer.fingerprints().keys()


@pytest.mark.parametrize(("spoil", "message"), SPOILT_ADAPTERS)
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_spoilt_is_named_at_once(
    trainer: TorchEngine, engine: Any, spoil: Spoil, message: str, version: int
) -> None:
    give = hand_over()
    for done in range(1, version):
        give(trainer, engine, done)
    with pytest.raises(RunError, match=message):
        give(Spoilt(trainer, spoil), engine, version)


def test_adapters_that_never_leave_are_named(trainer: TorchEngine, engine: Any) -> None:
    message = r"did not send 28 weights .* such as 'model\.layers\.0\.[a-z_.]+\.lora_A\.weight'"
    with pytest.raises(RunError, match=message):
        hand_over()(Spoilt(trainer, no_adapters), engine, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_adapters_that_do_not_reach_the_layers_are_named(
    trainer: TorchEngine, engine: Any, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vLLM multiplies by is read, not what it was given."""
    from vllm.lora.model_manager import LoRAModelManager

    give = hand_over()
    for done in range(1, version):
        give(trainer, engine, done)
        grow_adapters(trainer)
    monkeypatch.setattr(LoRAModelManager, "activate_adapter", lambda slots, lora_id: True)
    with pytest.raises(RunError, match=r"first 'model\.layers\.0\.self_attn\.q_proj\.lora_B\.weight'"):
        give(trainer, engine, version)


def test_an_adapter_vllm_lost_is_no_silent_base_model(trainer: TorchEngine, engine: Any) -> None:
    hand_over()(trainer, engine, 1)
    engine.llm.collective_rpc(lambda worker: worker.model_runner.lora_manager.remove_all_adapters())
    with pytest.raises(Exception, match="handed over in memory"):
        engine.generate(PROMPTS, Sampling(max_tokens=2))


def test_what_vllm_cannot_adapt_is_refused_when_it_starts(
    path: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.rank: vLLM has adapters up to 512; lower it, or set .*merged"):
        engine_of(model_of(path, rank=600))
    with pytest.raises(UnsupportedModel, match=r"vLLM has no adapters for .*GPT2.*; set rollout\.engine: transformers"):
        engine_of(model_of(write_gpt2(tmp_path)))
    from rlhf.engines import vllm_adapters

    monkeypatch.setattr(vllm_adapters, "_places", lambda worker: {"model.layers.0.self_attn.q_proj": None})
    with pytest.raises(UnsupportedModel, match=r"no place for 26 adapters of .*, such as 'model\.layers\.0\.mlp\.down"):
        engine_of(model_of(path))
