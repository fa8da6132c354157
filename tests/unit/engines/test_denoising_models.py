"""Encoders and encoder-decoders: steps of the textbook, however a batch is cut; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, RobertaConfig, RobertaForMaskedLM

from rlhf.config import LoraConfig, ModelConfig, NewModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.pretrained import create_model, save_model
from rlhf.engines.settings import TorchConfig
from rlhf.engines.sharding import shard
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError
from rlhf.types import MaskedBatch, SpanBatch
from tests.unit.engines.families import VOCAB_SIZE, make_batch
from tests.unit.engines.losses import Likelihood

LENGTHS = [9, 3, 12, 4, 7, 5, 11]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of each kind, and an encoder of another family."""
    made = {}
    for kind, tied in (("encoder", True), ("encoder_decoder", True), ("encoder_decoder", False), ("decoder", True)):
        new = NewModelConfig(kind=kind, hidden_size=32, num_layers=2, num_heads=2, context=64, tie_embeddings=tied)
        network = create_model(new, vocab_size=VOCAB_SIZE, bos_token_id=None, eos_token_id=1, pad_token_id=0, seed=3)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        made[kind if tied else f"{kind}-untied"] = tmp_path_factory.mktemp(kind)
        save_model(network, made[kind if tied else f"{kind}-untied"])
    config = RobertaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=66, pad_token_id=0,
    )  # fmt: skip
    made["roberta"] = tmp_path_factory.mktemp("roberta")
    save_model(RobertaForMaskedLM(config), made["roberta"])
    return {name: str(path) for name, path in made.items()}


def engine(path, kind, config=None, **model):
    spec = RoleSpec(
        role="policy",
        model=ModelConfig(path=path, **model),
        kind=kind,
        optimizer=OptimizerConfig(lr=1e-2, eps=1e-3, max_grad_norm=0.5),
        num_steps=10,
    )
    return TorchEngine(config or TorchConfig(), spec)


def masked_batch(width=14):
    rows = make_batch(LENGTHS, width=width)
    chosen = rows.attention_mask & (torch.rand(rows.tokens.shape) < 0.4)
    chosen[:, 0] = True  # unlike a decoder's, an encoder's first token can be asked for
    return MaskedBatch(
        tokens=torch.where(chosen, 2, rows.tokens),
        attention_mask=rows.attention_mask,
        response_mask=chosen,
        targets=rows.tokens,
    )


def span_batch():
    source, target = make_batch(LENGTHS, width=15), make_batch([2, 6, 3, 3, 8, 4, 5], width=10, seed=1, prompt=0)
    return SpanBatch(
        tokens=target.tokens,
        attention_mask=target.attention_mask,
        response_mask=target.response_mask,
        source=source.tokens,
        source_mask=source.attention_mask,
    )


CASES = {
    "encoder": ("encoder", masked_batch),
    "roberta": ("encoder", masked_batch),
    "encoder_decoder": ("encoder_decoder", span_batch),
    "encoder_decoder-untied": ("encoder_decoder", span_batch),
}


def textbook(path, batch):
    """The network, and its mean loss over what is asked."""
    if isinstance(batch, MaskedBatch):
        network = AutoModelForMaskedLM.from_pretrained(path).eval()
        labels = torch.where(batch.response_mask, batch.targets, -100)
        return network, network(batch.tokens, attention_mask=batch.attention_mask.long(), labels=labels).loss
    network = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    labels = torch.where(batch.response_mask, batch.tokens, -100)
    return network, network(batch.source, attention_mask=batch.source_mask.long(), labels=labels).loss


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_textbook_one(folders, name):
    kind, make = CASES[name]
    batch = make()
    trained = engine(folders[name], kind)
    metrics = trained.train_step(batch, Likelihood())
    network, loss = textbook(folders[name], batch)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    torch.optim.AdamW(network.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.0).step()
    assert metrics["policy/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["policy/grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    expected = network.state_dict()
    for weight, tensor in trained.weights():
        torch.testing.assert_close(tensor, expected[weight], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["encoder", "encoder_decoder"])
@pytest.mark.parametrize("micro_batch_tokens", [1, 40])
def test_a_step_does_not_depend_on_how_the_batch_is_cut(folders, name, micro_batch_tokens):
    kind, make = CASES[name]
    batch = make()
    whole = engine(folders[name], kind)
    cut = engine(folders[name], kind, TorchConfig(micro_batch_tokens=micro_batch_tokens), gradient_checkpointing=True)
    torch.testing.assert_close(cut.forward(batch).logprobs, whole.forward(batch).logprobs, atol=1e-5, rtol=1e-4)
    for _ in range(2):
        expected = whole.train_step(batch, Likelihood())
        assert cut.train_step(batch, Likelihood()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["encoder", "encoder_decoder"])
def test_padding_and_blank_rows_do_not_matter(folders, name):
    """Blank rows even out the ranks: they must leave neither a NaN nor a trace."""
    kind, make = CASES[name]
    batch = make()
    plain, odd = engine(folders[name], kind), engine(folders[name], kind)
    padded = shard(batch, torch.arange(len(batch)), len(batch) + 2)
    changed = {"tokens": torch.where(padded.attention_mask, padded.tokens, 9)}
    if isinstance(padded, SpanBatch):
        changed["source"] = torch.where(padded.source_mask, padded.source, 9)
    got = odd.train_step(replace(padded, **changed), Likelihood())
    assert got == pytest.approx(plain.train_step(batch, Likelihood()), rel=1e-4)


@pytest.mark.parametrize("name", ["encoder", "encoder_decoder"])
def test_saving_loading_and_exporting(folders, name, tmp_path):
    kind, make = CASES[name]
    batch = make()
    trained = engine(folders[name], kind)
    trained.train_step(batch, Likelihood())
    trained.save(tmp_path / "saved")
    again = engine(folders[name], kind)
    again.load(tmp_path / "saved")
    assert again.train_step(batch, Likelihood()) == trained.train_step(batch, Likelihood())
    trained.export(tmp_path / "export")
    exported = engine(str(tmp_path / "export"), kind)
    assert torch.equal(exported.forward(batch).logprobs, trained.forward(batch).logprobs)


def test_what_these_models_cannot_do_is_refused(folders):
    with pytest.raises(ConfigError, match="rows of an encoder-decoder cannot be packed"):
        engine(folders["encoder_decoder"], "encoder_decoder", TorchConfig(packing=True))
    with pytest.raises(ConfigError, match=r"model.lora: masked_lm and span_corruption train whole models"):
        engine(folders["encoder"], "encoder", lora=LoraConfig())
    with pytest.raises(ConfigError, match="cannot load the model"):
        engine(folders["decoder"], "encoder")
    with pytest.raises(ConfigError, match="reads ahead: encoders are no policies"):
        engine(folders["encoder"], "decoder")
    with pytest.raises(ConfigError, match="cannot load the model"):
        engine(folders["encoder_decoder"], "decoder")
