"""Adapters: the base stays whole beneath them, and merging them gives the model that was trained."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import ConfigError
from rlhf.types import Prompt, Sampling
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood, SquaredError

LENGTHS = [9, 3, 12, 4]


def engine(path, role="policy", lora=None, dtype="auto", checkpointing=False):
    model = ModelConfig(path=path, lora=lora or LoraConfig(rank=4), dtype=dtype, gradient_checkpointing=checkpointing)
    return TorchEngine(TorchConfig(), RoleSpec(role=role, model=model, optimizer=OptimizerConfig(lr=0.02)))


def trained(path, loss=None, **options):
    policy = engine(path, **options)
    for _ in range(3):
        policy.train_step(make_batch(LENGTHS), loss or Likelihood())
    return policy


def plain(path):
    return TorchEngine(TorchConfig(), RoleSpec(role="reference", model=ModelConfig(path=path)))


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "phi"])
def test_the_reference_is_the_untouched_model(model_path, family):
    policy = trained(model_path(family))
    batch = make_batch(LENGTHS)
    untouched = plain(model_path(family)).forward(batch).logprobs
    assert torch.equal(policy.base_forward(batch).logprobs, untouched)
    assert float((policy.forward(batch).logprobs - untouched).abs().max()) > 0.01


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "phi"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_merged_export_and_the_bare_adapter_are_the_trained_model(model_path, tmp_path, family, checkpointing):
    policy = trained(model_path(family), checkpointing=checkpointing)
    before = {name: p.clone() for name, p in policy.model.named_parameters()}
    policy.export(tmp_path)
    batch = make_batch(LENGTHS)
    logprobs = policy.forward(batch).logprobs
    torch.testing.assert_close(plain(str(tmp_path)).forward(batch).logprobs, logprobs, atol=1e-5, rtol=1e-5)

    merged = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    base = AutoModelForCausalLM.from_pretrained(model_path(family))
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        ours, theirs = merged(batch.tokens).logits, adapted(batch.tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    sent = dict(policy.weights())
    assert sent.keys() == merged.state_dict().keys()
    assert all(torch.equal(before[name], p) for name, p in policy.model.named_parameters()), "merging changed the model"


def test_merged_weights_arrive_in_the_rollout_engine(model_path):
    policy = trained(model_path("llama"))
    rollout = TransformersRollout(TransformersRolloutConfig(), ModelConfig(path=model_path("llama")))
    rollout.load_weights(policy.weights(), 1)
    prompt = Prompt(id="p", text="", token_ids=(3, 4, 5))
    (completion,) = rollout.generate([prompt], Sampling(max_tokens=6))[0]
    tokens = torch.tensor([prompt.token_ids + completion.token_ids])
    real = torch.ones_like(tokens, dtype=torch.bool)
    batch = type(make_batch([1]))(tokens=tokens, attention_mask=real, response_mask=real)
    logprobs = policy.forward(batch).logprobs[0, 3:]
    torch.testing.assert_close(torch.tensor(completion.logprobs), logprobs, atol=1e-5, rtol=1e-5)


def test_only_adapters_and_a_new_head_are_trained(model_path):
    policy, value = engine(model_path("llama")), engine(model_path("llama"), role="value")
    assert all(".lora_" in name for name, p in policy.model.named_parameters() if p.requires_grad)
    others = [name for name, p in value.model.named_parameters() if p.requires_grad and ".lora_" not in name]
    assert others == ["network.score.weight"]
    losses = [value.train_step(make_batch(LENGTHS), SquaredError())["value/loss"] for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_saving_and_loading_changes_no_bit(model_path, tmp_path, dropout):
    lora = LoraConfig(rank=4, dropout=dropout)
    torch.manual_seed(3)
    first = trained(model_path("llama"), lora=lora)
    first.save(tmp_path)
    expected = [first.train_step(make_batch(LENGTHS), Likelihood()) for _ in range(2)]
    torch.manual_seed(99)
    second = engine(model_path("llama"), lora=lora)
    second.load(tmp_path)
    assert [second.train_step(make_batch(LENGTHS), Likelihood()) for _ in range(2)] == expected
    for (name, left), (_, right) in zip(second.weights(), first.weights(), strict=True):
        assert torch.equal(left, right), name
    assert (tmp_path / "engine-00000.safetensors").stat().st_size < 200_000


def test_dropout_of_adapters_is_on_only_in_training(model_path):
    policy = trained(model_path("llama"), lora=LoraConfig(rank=4, dropout=0.5))
    batch = make_batch(LENGTHS)
    assert torch.equal(policy.forward(batch).logprobs, policy.forward(batch).logprobs)
    losses = {policy.train_step(batch, Likelihood())["policy/loss"] for _ in range(3)}
    assert len(losses) == 3


def test_the_base_is_frozen_in_bfloat16_and_adapters_are_float32(model_path):
    policy = trained(model_path("llama"), dtype="bfloat16")
    kinds = {p.dtype for name, p in policy.model.named_parameters() if ".lora_" in name}
    assert kinds == {torch.float32}
    assert {p.dtype for name, p in policy.model.named_parameters() if ".lora_" not in name} == {torch.bfloat16}


def test_seeds_make_adapters(model_path):
    def first_adapter(seed):
        model = ModelConfig(path=model_path("llama"), lora=LoraConfig(rank=4))
        policy = TorchEngine(
            TorchConfig(), RoleSpec(role="policy", model=model, optimizer=OptimizerConfig(), seed=seed)
        )
        return next(p for name, p in policy.model.named_parameters() if ".lora_A" in name)

    assert torch.equal(first_adapter(1), first_adapter(1))
    assert not torch.equal(first_adapter(1), first_adapter(2))


def test_unknown_targets_are_named(model_path):
    with pytest.raises(ConfigError, match=r"target_modules \['q_prj'\]: no such linear layers; there are .*q_proj"):
        engine(model_path("llama"), lora=LoraConfig(target_modules=("q_prj", "v_proj")))
    some = engine(model_path("llama"), lora=LoraConfig(target_modules=("q_proj",)))
    assert {name.split(".")[-4] for name, p in some.model.named_parameters() if p.requires_grad} == {"q_proj"}


def test_a_policy_without_adapters_has_no_base_to_go_back_to(model_path):
    with pytest.raises(ConfigError, match="has no adapters"):
        plain(model_path("llama")).base_forward(make_batch([4]))
