"""Masked-LM and span corruption: the batches they make of texts, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.denoising import MaskedLM, MaskedLMConfig, SpanCorruption, SpanCorruptionConfig
from rlhf.errors import ConfigError, DataError
from rlhf.runtime.pipeline import prepare
from rlhf.types import PolicyOutput, TokenBatch, Vocabulary
from tests.tiny_runs import MODEL, single
from tests.unit.algorithms.row_run import RowRun, Trainee

VOCABULARY = Vocabulary(
    size=60, special_ids=frozenset(range(10)), pad_id=0, eos_id=1, mask_id=2, sentinel_ids=(3, 4, 5, 6)
)


def texts() -> TokenBatch:
    """Rows of 20, 3 and 1 tokens that end in EOS."""
    mask = torch.arange(20) < torch.tensor([20, 3, 1])[:, None]
    tokens = torch.where(mask, torch.randint(10, 60, (3, 20)), 0)
    tokens[[0, 1, 2], [19, 2, 0]] = 1
    return TokenBatch(tokens=tokens, attention_mask=mask, response_mask=mask)


def test_masked_texts_ask_for_ordinary_tokens_alone() -> None:
    whole = texts()
    algorithm = MaskedLM(MaskedLMConfig(steps=1, rate=0.5))
    batch = algorithm.corrupted(whole, VOCABULARY, seed=1)
    assert torch.equal(batch.targets, whole.tokens)
    assert torch.equal(batch.attention_mask, whole.attention_mask)
    assert batch.response_mask.sum(1).tolist() == [10, 1, 0]
    assert not (batch.response_mask & (whole.tokens < 10)).any()
    changed = batch.tokens != whole.tokens
    assert not (changed & ~batch.response_mask).any()
    assert set(batch.tokens[changed].tolist()) <= {2, *range(10, 60)}
    assert 2 in batch.tokens[changed]
    again, other = (algorithm.corrupted(whole, VOCABULARY, seed) for seed in (1, 2))
    assert torch.equal(again.tokens, batch.tokens)
    assert not torch.equal(other.response_mask, batch.response_mask)


def test_hidden_spans_stand_in_targets() -> None:
    whole = texts()
    batch = SpanCorruption(SpanCorruptionConfig(steps=1, rate=0.3)).corrupted(whole, VOCABULARY, seed=1)
    for row, length in enumerate([20, 3, 1]):
        source = batch.source[row][batch.source_mask[row]].tolist()
        target = batch.tokens[row][batch.attention_mask[row]].tolist()
        spans = sum(token in VOCABULARY.sentinel_ids for token in source)
        assert spans == [2, 1, 0][row]
        assert target[-1] == 1
        assert target[-2] == VOCABULARY.sentinel_ids[spans]
        assert len(source) + len(target) == length + 2 * spans + 2
    assert torch.equal(batch.response_mask, batch.attention_mask)


def test_spans_are_decided_by_the_seed() -> None:
    whole = texts()
    algorithm = SpanCorruption(SpanCorruptionConfig(steps=1, rate=0.3))
    first, again, other = (algorithm.corrupted(whole, VOCABULARY, seed) for seed in (1, 1, 2))
    assert torch.equal(first.source, again.source)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.source, other.source)


def test_both_sides_are_padded_with_the_tokenizers_own_token() -> None:
    padded = replace(VOCABULARY, pad_id=9)
    batch = SpanCorruption(SpanCorruptionConfig(steps=1, rate=0.3)).corrupted(texts(), padded, seed=1)
    for tokens, mask in ((batch.source, batch.source_mask), (batch.tokens, batch.attention_mask)):
        assert (tokens[~mask] == 9).all()
        assert not (tokens[mask] == 9).any()
        assert not mask.all()


# --- the method ------------------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize(
    "method",
    [MaskedLM(MaskedLMConfig(rate=0.5, batch_size=3)), SpanCorruption(SpanCorruptionConfig(rate=0.3, batch_size=3))],
    ids=["masked_lm", "span_corruption"],
)


def shares(rows: TokenBatch) -> PolicyOutput:
    """Log-probs from -0.1 a token on; NaN where nothing is asked."""
    places = torch.arange(1, rows.tokens.shape[1] + 1).expand(rows.tokens.shape)
    logprobs: Tensor = torch.where(rows.response_mask, -0.1 * places, torch.nan)
    return PolicyOutput(logprobs=logprobs, entropy=logprobs)


@BOTH
def test_every_step_takes_something_else_out_of_the_same_texts(method: Any) -> None:
    whole = texts()
    run = RowRun([whole, whole])
    method.run(run)
    (first, _), (second, _) = run.policy.trained
    for step, rows in ((1, first), (2, second)):
        expected = method.corrupted(whole, VOCABULARY, step)
        assert type(rows) is type(expected)
        for (name, value), (_, wanted) in zip(rows.tensors(), expected.tensors(), strict=True):
            assert torch.equal(value, wanted), name
    assert not torch.equal(first.tokens, second.tokens)


@BOTH
def test_the_held_out_loss_is_the_mean_over_what_is_missing_and_the_same_each_time(method: Any) -> None:
    whole = texts()
    run = RowRun(held_out=whole, policy=Trainee(shares))
    asked = method.corrupted(whole, VOCABULARY, seed=0).response_mask
    expected = [
        0.1 * sum(place + 1 for place in range(len(row)) if row[place]) / sum(row) for row in asked.tolist() if any(row)
    ]
    assert method.measure(run)["loss"] == pytest.approx(expected)
    assert method.measure(run) == method.measure(run)


def test_a_text_in_which_nothing_can_be_asked_has_no_loss() -> None:
    """The third is an end alone: there is no ordinary token to mask."""
    run = RowRun(held_out=texts(), policy=Trainee(shares))
    assert len(MaskedLM(MaskedLMConfig()).measure(run)["loss"]) == 2


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_what_is_needed_is_refused() -> None:
    bare = Vocabulary(size=60, special_ids=frozenset(range(10)), pad_id=0, eos_id=1)
    with pytest.raises(DataError, match="masked_lm: the tokenizer has no mask token"):
        MaskedLM(MaskedLMConfig(steps=1)).corrupted(texts(), bare, seed=0)
    with pytest.raises(DataError, match=r"span_corruption: 1 spans need 2 sentinels, and there are 0 \(<extra_id_0>"):
        SpanCorruption(SpanCorruptionConfig(steps=1)).corrupted(texts(), bare, seed=0)


@pytest.mark.parametrize(
    ("method", "kind", "said"),
    [
        ("masked_lm", "decoder", "model.new.kind: masked_lm trains an encoder, given decoder; set kind: encoder"),
        ("span_corruption", "encoder", "span_corruption trains an encoder-decoder, given encoder"),
        ("pretrain", "encoder", "model.new.kind: pretrain trains a decoder, given encoder; leave kind out"),
    ],
)
def test_a_fresh_model_of_another_kind_is_refused(method: str, kind: str, said: str) -> None:
    stage = {"algorithm": {"type": method, "steps": 1}, "model": {"new": {**MODEL, "kind": kind}}}
    with pytest.raises(ConfigError) as caught:
        prepare(single(stage))
    assert said in str(caught.value)
