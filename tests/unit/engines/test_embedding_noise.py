"""NEFTune: noise of the paper's size, in training only, the same however a batch is cut and for the same seed alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.neftune import neftune_post_forward_hook

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.embedding_noise import noised_embeddings, row_noise
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

LENGTHS = [9, 3, 12, 4, 7, 5, 11]


NOISY = Likelihood(embedding_noise=20.0)


def engine(path, config=None, seed=3, **model):
    spec = RoleSpec(
        role="policy",
        model=ModelConfig(path=path, **model),
        optimizer=OptimizerConfig(lr=1e-2, eps=1e-3, max_grad_norm=0.5),
        num_steps=10,
        seed=seed,
    )
    return TorchEngine(config or TorchConfig(), spec)


def weights(engine):
    return {name: tensor.clone() for name, tensor in engine.weights()}


def noise(batch, alpha=5.0, seed=0, step=0, width=16):
    return row_noise(batch, torch.zeros(1, width), alpha, seed, step)


def test_noise_is_uniform_of_the_papers_size_on_real_tokens():
    batch = make_batch([200, 50], width=260)
    drawn = noise(batch)
    for row, length in enumerate([200, 50]):
        bound = 5.0 / (length * 16) ** 0.5
        real = drawn[row, :length] / bound
        assert real.abs().max() <= 1
        assert real.abs().max() > 0.99
        assert abs(float(real.mean())) < 4 / (3 * length * 16) ** 0.5
        assert float(real.var()) == pytest.approx(1 / 3, rel=0.1)
        assert not drawn[row, length:].any()
    torch.testing.assert_close(noise(batch, alpha=10.0), 2 * drawn)


def test_noise_is_a_function_of_seed_step_and_the_rows_own_tokens():
    batch = make_batch([6, 9])
    drawn = noise(batch)
    assert torch.equal(noise(batch), drawn)
    assert torch.equal(noise(batch[torch.tensor([1, 0])]), drawn[[1, 0]])
    wider = make_batch([6, 9], width=9)
    wider = replace(
        wider,
        tokens=torch.cat([batch.tokens, torch.full((2, 4), 7)], 1),
        attention_mask=torch.cat([batch.attention_mask, torch.zeros(2, 4, dtype=torch.bool)], 1),
    )
    assert torch.equal(noise(wider)[:, :9], drawn)
    for other in (noise(batch, seed=1), noise(batch, step=1), noise(make_batch([6, 9], seed=1))):
        assert not (other[0, :6] == drawn[0, :6]).any()


def test_the_peer_draws_noise_of_the_same_size_for_a_row_without_padding():
    """transformers counts padding into L, which makes a row's noise depend on its neighbours; alone they agree."""
    embeddings = torch.nn.Embedding(61, 16).train().requires_grad_(False)
    embeddings.neftune_noise_alpha = 5.0
    batch = make_batch([40])
    plain = embeddings(batch.tokens)
    theirs = neftune_post_forward_hook(embeddings, None, plain) - plain
    ours = noise(batch)
    assert float(theirs.abs().max()) == pytest.approx(float(ours.abs().max()), rel=0.05)
    assert float(theirs.norm()) == pytest.approx(float(ours.norm()), rel=0.1)
    padded = make_batch([40], width=160)
    beside_padding = neftune_post_forward_hook(embeddings, None, embeddings(padded.tokens)) - embeddings(padded.tokens)
    assert float(beside_padding.abs().max()) < 0.6 * float(ours.abs().max())
    assert float(noise(padded).norm()) == pytest.approx(float(ours.norm()), rel=0.1)


def test_a_noised_step_is_the_textbook_one(model_path):
    batch = make_batch(LENGTHS)
    ours = engine(model_path("llama"))
    metrics = ours.train_step(batch, NOISY)
    network = AutoModelForCausalLM.from_pretrained(model_path("llama")).eval()
    embedded = network.get_input_embeddings()(batch.tokens)
    embedded = embedded + row_noise(batch, embedded, 20.0, seed=3, step=0)
    logits = network(inputs_embeds=embedded, attention_mask=batch.attention_mask.long()).logits[:, :-1]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.tokens[:, 1:], reduction="none")
    loss = nll[batch.response_mask[:, 1:]].mean()
    assert metrics["policy/loss"] == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    assert metrics["policy/grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert metrics["policy/loss"] != pytest.approx(
        engine(model_path("llama")).train_step(batch, Likelihood())["policy/loss"], rel=1e-3
    )


@pytest.mark.parametrize("config", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 30}, {"packing": False}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_noise_does_not_depend_on_how_the_batch_is_cut(model_path, config, checkpointing):
    batch = make_batch(LENGTHS, width=14)
    whole = engine(model_path("llama-tied"))
    cut = engine(model_path("llama-tied"), TorchConfig(**config), gradient_checkpointing=checkpointing)
    for _ in range(2):
        assert cut.train_step(batch, NOISY) == pytest.approx(whole.train_step(batch, NOISY), rel=1e-4)
    theirs = weights(whole)
    for name, tensor in weights(cut).items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-4)


def test_the_seed_and_the_step_decide_and_a_saved_run_goes_on_with_its_noise(model_path, tmp_path):
    batch = make_batch(LENGTHS)
    losses = {}
    for seed in (3, 4):
        trained = engine(model_path("llama"), seed=seed)
        losses[seed] = [trained.train_step(batch, NOISY)["policy/loss"] for _ in range(2)]
    assert losses[3][0] != losses[4][0]
    first = engine(model_path("llama"))
    assert first.train_step(batch, NOISY)["policy/loss"] == losses[3][0]
    first.save(tmp_path)
    second = engine(model_path("llama"))
    second.load(tmp_path)
    assert second.train_step(batch, NOISY)["policy/loss"] == losses[3][1]


def test_no_noise_outside_training_and_none_is_left_behind(model_path):
    batch = make_batch(LENGTHS)
    plain = engine(model_path("llama"), lora=LoraConfig(rank=2))
    before = plain.forward(batch).logprobs
    with noised_embeddings(
        plain.model.network.get_input_embeddings(), batch, alpha=20.0, packing=False, seed=0, step=0
    ):
        assert not torch.equal(plain.forward(batch).logprobs, before)  # what the hook would do
    assert torch.equal(plain.forward(batch).logprobs, before)
    plain.train_step(batch, NOISY)
    assert torch.equal(plain.base_forward(batch).logprobs, before)


def test_blank_rows_alone_are_run_without_noise(model_path):
    blank = make_batch([4])
    blank = replace(blank, attention_mask=blank.attention_mask & False, response_mask=blank.response_mask & False)
    for packing in ("none", "groups"):
        embeddings = torch.nn.Embedding(61, 4)
        with noised_embeddings(embeddings, blank, alpha=5.0, packing=packing, seed=0, step=0):
            tokens = blank.tokens[:, :1] if packing == "groups" else blank.tokens
            assert torch.equal(embeddings(tokens), torch.nn.functional.embedding(tokens, embeddings.weight))
