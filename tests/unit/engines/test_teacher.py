"""A policy beside a frozen teacher: the step of the textbook, however it is cut, and the teacher stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError
from rlhf.functional.distillation import FORWARD_KL, Divergence, divergence
from rlhf.types import DistilledOutput, LossSum, TokenBatch
from tests.unit.engines.families import VOCAB_SIZE, make_batch
from tests.unit.engines.losses import Likelihood

LENGTHS = [9, 3, 12, 4, 7, 5, 11]
KINDS = [FORWARD_KL, Divergence(1.0), Divergence(0.3, temperature=2.0)]


@dataclass(frozen=True)
class Apart:
    """The mean divergence over response tokens."""

    divergence: Divergence
    entropy_grad = False

    def count(self, batch: TokenBatch) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: DistilledOutput, batch: TokenBatch) -> LossSum:
        return LossSum(total=torch.where(batch.response_mask, output.divergence, 0.0).sum(), sums={})


def engine(path, teacher, config=None, temperature=1.0, **model):
    spec = RoleSpec(
        role="policy",
        model=ModelConfig(path=path, **model),
        teacher=teacher if isinstance(teacher, ModelConfig) else ModelConfig(path=teacher),
        optimizer=OptimizerConfig(lr=1e-2, eps=1e-3, max_grad_norm=0.5),
        num_steps=10,
        temperature=temperature,
    )
    return TorchEngine(config or TorchConfig(), spec)


def logits(path, batch):
    network = AutoModelForCausalLM.from_pretrained(path).eval()
    return network, network(batch.tokens, attention_mask=batch.attention_mask.long()).logits[:, :-1]


@pytest.fixture(scope="module")
def wide_teacher(tmp_path_factory):
    """Of another family and width, with capped logits and a vocabulary padded further."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(5)
    config = AutoConfig.for_model(
        "gemma2",
        vocab_size=VOCAB_SIZE + 3,
        hidden_size=48,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=0.3,
        final_logit_softcapping=2.0,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_textbook_one(model_path, wide_teacher, kind):
    batch = make_batch(LENGTHS)
    trained = engine(model_path("granite"), wide_teacher)
    metrics = trained.train_step(batch, Apart(kind))

    network, own = logits(model_path("granite"), batch)
    _, taught = logits(wide_teacher, batch)
    asked = batch.response_mask[:, 1:]
    loss = divergence(own, taught[..., :VOCAB_SIZE], kind)[asked].mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    torch.optim.AdamW(network.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.0).step()
    assert metrics["policy/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["policy/grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    expected = network.state_dict()
    for name, tensor in trained.weights():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 30}, {"packing": False}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_does_not_depend_on_how_the_batch_is_cut(model_path, config, checkpointing, monkeypatch):
    batch = make_batch(LENGTHS, width=14)
    paths = model_path("llama-tied"), model_path("qwen2")
    whole, cut = engine(*paths), engine(*paths, TorchConfig(**config), gradient_checkpointing=checkpointing)
    expected = [whole.train_step(batch, Apart(KINDS[2])) for _ in range(2)]
    monkeypatch.setattr("rlhf.functional.logprobs.LOGITS_AT_ONCE", 4 * VOCAB_SIZE)  # chunks of four tokens
    got = [cut.train_step(batch, Apart(KINDS[2])) for _ in range(2)]
    assert got == [pytest.approx(metrics, rel=1e-4) for metrics in expected]
    theirs = dict(whole.weights())
    for name, tensor in cut.weights():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-4)


def test_forward_says_what_a_policy_says_and_its_kl_from_the_teacher(model_path, wide_teacher):
    batch = make_batch(LENGTHS)
    paired = engine(model_path("llama"), wide_teacher, temperature=1.5)
    alone = TorchEngine(
        TorchConfig(), RoleSpec(role="policy", model=ModelConfig(path=model_path("llama")), temperature=1.5)
    )
    ours, plain = paired.forward(batch), alone.forward(batch)
    assert torch.equal(ours.logprobs, plain.logprobs)
    assert torch.equal(ours.entropy, plain.entropy)
    with torch.no_grad():
        (_, own), (_, taught) = logits(model_path("llama"), batch), logits(wide_teacher, batch)
        wanted = divergence(own, taught[..., :VOCAB_SIZE], FORWARD_KL)
    asked = batch.response_mask[:, 1:]
    torch.testing.assert_close(ours.divergence[:, 1:][asked], wanted[asked], atol=1e-5, rtol=1e-4)
    assert not ours.divergence[~batch.response_mask].any()


def test_a_policy_that_is_its_teacher_has_nothing_to_learn_and_one_that_is_not_comes_nearer(model_path):
    batch = make_batch(LENGTHS)
    same = engine(model_path("llama"), model_path("llama"))
    metrics = same.train_step(batch, Apart(FORWARD_KL))
    assert metrics["policy/loss"] == pytest.approx(0, abs=1e-5)
    assert metrics["policy/grad_norm"] == pytest.approx(0, abs=1e-4)
    other = engine(model_path("llama"), model_path("qwen2"))
    losses = [other.train_step(batch, Apart(FORWARD_KL))["policy/loss"] for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_nothing_of_the_teacher_is_trained_saved_or_exported(model_path, tmp_path, lora):
    batch = make_batch(LENGTHS)
    trained = engine(model_path("llama"), model_path("qwen2"), lora=lora)
    before = {name: tensor.clone() for name, tensor in trained.model.teacher.named_parameters()}
    trained.train_step(batch, Apart(FORWARD_KL))
    trained.train_step(batch, Likelihood())  # any other loss trains it as any policy
    for name, tensor in trained.model.teacher.named_parameters():
        assert torch.equal(tensor, before[name])
        assert tensor.grad is None
    trained.save(tmp_path / "saved")
    again = engine(model_path("llama"), model_path("qwen2"), lora=lora)
    again.load(tmp_path / "saved")
    assert again.train_step(batch, Apart(FORWARD_KL)) == trained.train_step(batch, Apart(FORWARD_KL))
    trained.export(tmp_path / "export")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert alone.config.model_type == "llama"
    assert {name for name, _ in trained.weights()} == set(alone.state_dict())


def test_a_teacher_that_rows_may_not_fit_is_refused(model_path):
    shorter = ModelConfig(path=model_path("qwen2"), max_length=32)
    with pytest.raises(ConfigError, match=r"teacher: its context is 32 tokens, the student's 64; set model.max_length"):
        engine(model_path("llama"), shorter)
    engine(model_path("llama"), shorter, max_length=32)
