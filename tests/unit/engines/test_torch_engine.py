"""One optimizer step is the same however its batch is cut, and a saved engine continues bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.optimizer import learning_rate
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError, DataError, RunError
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import ClippedSurrogate, Likelihood, NotFinite, SquaredError, experience

LENGTHS = [9, 3, 12, 4, 7, 5, 11]


def engine(path, role="policy", optimizer=None, num_steps=10, config=None, folder=None, **model):
    spec = RoleSpec(
        role=role,
        model=ModelConfig(path=path, **model),
        # eps: a gradient that is only rounding must not become a step of its sign
        optimizer=optimizer or OptimizerConfig(lr=1e-2, eps=1e-3, max_grad_norm=0.5),
        num_steps=num_steps,
        folder=folder,
    )
    return TorchEngine(config or TorchConfig(), spec)


def weights(engine):
    return {name: tensor.clone() for name, tensor in engine.weights()}


def assert_same(left, right, **tolerance):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize("config", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 30}, {"packing": False}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_does_not_depend_on_how_the_batch_is_cut(model_path, config, checkpointing):
    batch = make_batch(LENGTHS, width=14)
    whole = engine(model_path("llama-tied"))
    cut = engine(model_path("llama-tied"), config=TorchConfig(**config), gradient_checkpointing=checkpointing)
    experiences = experience(batch, whole.forward(batch).logprobs)
    for loss, data in [(Likelihood(), batch), (ClippedSurrogate(), experiences)]:
        expected, got = whole.train_step(data, loss), cut.train_step(data, loss)
        assert got == pytest.approx(expected, rel=1e-4)
    assert_same(weights(cut), weights(whole), atol=1e-5, rtol=1e-4)


def test_a_step_is_the_textbook_one(model_path):
    """Mean over response tokens, clipped to the norm, AdamW, in plain torch."""
    batch = make_batch(LENGTHS)
    ours = engine(
        model_path("qwen3"), optimizer=OptimizerConfig(lr=1e-2, eps=1e-3, weight_decay=0.1, max_grad_norm=0.3)
    )
    metrics = ours.train_step(batch, Likelihood())

    network = AutoModelForCausalLM.from_pretrained(model_path("qwen3")).eval()
    logits = network(batch.tokens, attention_mask=batch.attention_mask.long()).logits[:, :-1]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.tokens[:, 1:], reduction="none")
    loss = nll[batch.response_mask[:, 1:]].mean()
    loss.backward()
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() == 1]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.3)
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-3).step()

    assert metrics["policy/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["policy/grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert metrics["policy/lr"] == 1e-2
    assert_same(weights(ours), network.state_dict(), atol=1e-5, rtol=1e-4)


def test_values_learn(model_path):
    value = engine(model_path("llama"), role="value", config=TorchConfig(micro_batch_tokens=20))
    batch = make_batch(LENGTHS)
    losses = [value.train_step(batch, SquaredError())["value/loss"] for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_saving_and_loading_in_the_middle_changes_no_bit(model_path, tmp_path, family, schedule):
    optimizer = OptimizerConfig(lr=1e-2, schedule=schedule, warmup=0.2)
    straight = engine(model_path(family), optimizer=optimizer)
    batches = [make_batch(LENGTHS, seed=seed) for seed in range(5)]
    expected = [straight.train_step(batch, Likelihood()) for batch in batches]
    first = engine(model_path(family), optimizer=optimizer)
    got = [first.train_step(batch, Likelihood()) for batch in batches[:2]]
    first.save(tmp_path)
    second = engine(model_path(family), optimizer=optimizer)
    second.load(tmp_path)
    got += [second.train_step(batch, Likelihood()) for batch in batches[2:]]
    assert got == expected
    for (name, left), (_, right) in zip(second.weights(), straight.weights(), strict=True):
        assert torch.equal(left, right), name


def test_a_checkpoint_of_another_model_or_role_is_refused(model_path, tmp_path):
    engine(model_path("llama")).save(tmp_path)
    with pytest.raises(RunError, match="is of another model: "):
        engine(model_path("qwen2")).load(tmp_path)
    with pytest.raises(RunError, match="format 2 of a policy, not format 2 of a value"):
        engine(model_path("llama"), role="value").load(tmp_path)
    (tmp_path / "engine-00000.safetensors").write_bytes(b"broken")
    with pytest.raises(RunError, match="cannot read the saved policy"):
        engine(model_path("llama")).load(tmp_path)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "gemma2"])
def test_an_export_loads_in_transformers_and_weights_name_the_head(model_path, tmp_path, family):
    trained = engine(model_path(family))
    trained.train_step(make_batch(LENGTHS), Likelihood())
    trained.export(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    network = AutoModelForCausalLM.from_pretrained(tmp_path)
    sent = weights(trained)
    assert "lm_head.weight" in sent
    assert_same(sent, network.state_dict(), atol=0, rtol=0)
    again = engine(str(tmp_path)).forward(make_batch(LENGTHS)).logprobs
    assert torch.equal(again, trained.forward(make_batch(LENGTHS)).logprobs)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_step_that_is_not_finite_is_not_taken(model_path, gradient_only):
    policy = engine(model_path("llama"))
    before = weights(policy)
    assert policy.train_step(make_batch(LENGTHS), NotFinite(gradient_only)) == {"policy/skipped": 1.0}
    assert_same(weights(policy), before, atol=0, rtol=0)
    assert policy.steps == 0
    untroubled = engine(model_path("llama"))
    for trained in (policy, untroubled):
        assert trained.train_step(make_batch(LENGTHS), Likelihood())["policy/skipped"] == 0
    assert_same(weights(policy), weights(untroubled), atol=0, rtol=0)


def test_too_many_skipped_steps_in_a_row_end_the_run_and_their_batches_are_kept(model_path, tmp_path):
    optimizer = OptimizerConfig(max_skipped=1)
    policy = engine(model_path("llama"), optimizer=optimizer, folder=str(tmp_path))
    policy.train_step(make_batch(LENGTHS), NotFinite(False))
    policy.train_step(make_batch(LENGTHS), Likelihood())
    policy.train_step(make_batch(LENGTHS), NotFinite(False))  # the second in all, the first in a row
    with pytest.raises(RunError, match=r"the policy's loss is nan in optimizer step 2, 2 times in a row.*not_finite"):
        policy.train_step(make_batch(LENGTHS), NotFinite(False))
    names = sorted(path.name for path in (tmp_path / "not_finite").iterdir())
    assert names == [f"policy-step-{name}.safetensors" for name in ("1-1", "2-1", "2-2")]
    assert torch.equal(load_file(tmp_path / "not_finite" / names[0])["tokens"], make_batch(LENGTHS).tokens)


def test_a_batch_without_targets_is_refused(model_path):
    with pytest.raises(DataError, match="nothing to train on: Likelihood counts 0"):
        engine(model_path("llama")).train_step(make_batch([2, 2], prompt=2), Likelihood())


def test_a_frozen_role_is_not_trained(model_path):
    frozen = TorchEngine(TorchConfig(), RoleSpec(role="reference", model=ModelConfig(path=model_path("llama"))))
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    with pytest.raises(ConfigError, match="reference has no optimizer"):
        frozen.train_step(make_batch([4]), Likelihood())


def test_bfloat16_computes_in_bfloat16_over_float32_weights(model_path):
    trained = engine(model_path("llama"), dtype="bfloat16")
    exact = engine(model_path("llama"), dtype="float32")
    frozen = TorchEngine(
        TorchConfig(), RoleSpec(role="reference", model=ModelConfig(path=model_path("llama"), dtype="bfloat16"))
    )
    batch = make_batch(LENGTHS)
    ours, theirs, exactly = (e.forward(batch).logprobs for e in (trained, frozen, exact))
    assert ours.dtype == theirs.dtype == torch.float32
    assert 1e-4 < float((ours - exactly).abs().max()) < 0.5
    assert float((theirs - exactly).abs().max()) < 0.5
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32}
    assert {p.dtype for p in frozen.model.parameters()} == {torch.bfloat16}
    losses = [trained.train_step(batch, Likelihood())["policy/loss"] for _ in range(5)]
    assert losses[-1] < losses[0]


def test_the_schedule():
    cosine = OptimizerConfig(lr=1.0, schedule="cosine", warmup=0.2, min_lr_ratio=0.1)
    rates = [learning_rate(cosine, step, 10) for step in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates[10] == rates[11] == pytest.approx(0.1)
    linear = OptimizerConfig(lr=1.0, schedule="linear")
    assert [learning_rate(linear, step, 4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert {learning_rate(OptimizerConfig(lr=2.0), step, 4) for step in range(9)} == {2.0}
