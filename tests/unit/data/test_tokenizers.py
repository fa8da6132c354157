"""Tokenizers are completed without adding to them, refused where they do not fit, and trained deterministically."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import NewTokenizerConfig
from rlhf.data.encode import Encoder
from rlhf.data.tokenizers import (
    PLAIN_TEMPLATE,
    completed,
    load_tokenizer,
    new_tokenizer,
    require_eos,
    require_vocabulary_fits,
)
from rlhf.errors import ConfigError, DataError
from rlhf.types import Demonstration, Message, Prompt
from tests.unit.data.builders import CHATML, byte_tokenizer

TEXTS = ["the cat sat on the mat .", "hello, world!\nis it  there?", "colou-red: 3 cats ; user"]
CHAT = (Message(role="user", content="the cat"), Message(role="assistant", content="sat there"))


def make(kind: Any, texts: list[str] | None = None, vocab_size: int = 300) -> Any:
    return new_tokenizer(NewTokenizerConfig(type=kind, vocab_size=vocab_size), texts or TEXTS)


@pytest.mark.parametrize("kind", ["words", "bpe", "bytes"])
def test_new_tokenizers_give_back_what_they_were_given(kind: str) -> None:
    tokenizer = make(kind)
    for text in [*TEXTS, "world cat sat the"]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    if kind != "words":
        assert tokenizer.decode(tokenizer("日本 \u2028 tab\t")["input_ids"]) == "日本 \u2028 tab\t"


@pytest.mark.parametrize("kind", ["words", "bpe", "bytes"])
def test_new_tokenizers_are_deterministic_and_survive_saving(kind: str, tmp_path: Path) -> None:
    first, second = make(kind), make(kind)
    assert first.get_vocab() == second.get_vocab()
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    first.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    conversation = Demonstration(id="0", messages=CHAT)
    assert loaded.chat_template == first.chat_template
    assert (loaded.pad_token, loaded.eos_token) == (first.pad_token, first.eos_token) == ("<|pad|>", "<|end|>")
    rows = [Encoder(tokenizer, 99).encode_demonstration(conversation) for tokenizer in (first, loaded)]
    assert rows[0] == rows[1]
    assert loaded.decode(loaded(TEXTS[1])["input_ids"]) == TEXTS[1]


@pytest.mark.parametrize("kind", ["words", "bpe", "bytes"])
def test_new_tokenizers_know_conversations(kind: str) -> None:
    tokenizer = make(kind)
    encoder = Encoder(tokenizer, 99)
    row = encoder.encode_demonstration(Demonstration(id="0", messages=CHAT))
    assert row is not None
    trained = [token for token, is_trained in zip(row.tokens, row.trained, strict=True) if is_trained]
    assert tokenizer.decode(trained) == "sat there<|end_turn|>"
    assert tokenizer.decode(trained, skip_special_tokens=True) == "sat there"
    marked = tokenizer.apply_chat_template(list(CHAT), return_assistant_tokens_mask=True)
    assert (list(row.tokens), list(row.trained)) == (marked["input_ids"], [m == 1 for m in marked["assistant_masks"]])
    assert encoder.stop_ids == tuple(tokenizer.convert_tokens_to_ids(["<|end|>", "<|end_turn|>"]))


def test_words_are_single_tokens_wherever_they_stand() -> None:
    tokenizer = make("words", ["red green blue"])
    alone, after = tokenizer("green")["input_ids"], tokenizer("red green")["input_ids"]
    assert len(alone) == 1
    assert after[1:] == alone
    unknown = tokenizer("purple")["input_ids"]
    assert unknown == [tokenizer.unk_token_id]


def test_vocabulary_sizes() -> None:
    assert len(make("bpe", vocab_size=280)) <= 280
    assert len(make("bytes")) == 263
    assert len(make("words", vocab_size=16)) == 16
    with pytest.raises(ConfigError, match="vocab_size 100 is too small: bpe needs 263"):
        make("bpe", vocab_size=100)


def test_padding_prefers_a_token_made_for_it() -> None:
    named = byte_tokenizer(CHATML, eos_token="<|im_end|>")
    named.add_special_tokens({"additional_special_tokens": ["<|reserved_0|>", "<|finetune_pad|>"]})
    assert completed(named).pad_token == "<|finetune_pad|>"
    reserved = byte_tokenizer(CHATML, eos_token="<|im_end|>")
    reserved.add_special_tokens({"additional_special_tokens": ["<|reserved_0|>"]})
    assert completed(reserved).pad_token == "<|reserved_0|>"
    bare = byte_tokenizer(CHATML, eos_token="<|eos|>")
    size = len(bare)
    assert completed(bare).pad_token == "<|eos|>"
    assert len(bare) == size


def test_padding_that_is_eos_does_not_hide_ends() -> None:
    encoder = Encoder(completed(byte_tokenizer(None, eos_token="<|eos|>")), 50)
    rows = [encoder.encode_demonstration(Demonstration(id=t, prompt="q", completion=t)) for t in ("a", "bcd")]
    batch = encoder.token_batch([row for row in rows if row is not None])
    assert encoder.pad_id == encoder.eos_id
    assert batch.attention_mask.sum(dim=1).tolist() == [3, 5]
    assert batch.response_mask.sum(dim=1).tolist() == [2, 4]


def test_eos_can_be_named_and_is_asked_for() -> None:
    tokenizer = byte_tokenizer(None, pad_token="<|pad|>")
    with pytest.raises(DataError, match="ppo needs to know where an answer ends"):
        require_eos(tokenizer, "ppo")
    with pytest.raises(DataError, match=r"eos_token '<\|nope\|>' is not in the tokenizer's vocabulary"):
        completed(tokenizer, eos_token="<|nope|>")
    tokenizer.add_tokens(["<|stop|>"])
    named = completed(tokenizer, eos_token="<|stop|>")
    assert require_eos(named, "ppo") == named.convert_tokens_to_ids("<|stop|>")


def test_without_any_spare_token_padding_is_an_error() -> None:
    with pytest.raises(DataError, match="no padding, EOS or unknown token"):
        completed(byte_tokenizer(None))


def test_a_missing_template_is_replaced_by_the_plain_one_and_said_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO):
        tokenizer = completed(byte_tokenizer(None, eos_token="<|eos|>"))
        completed(tokenizer)
    assert [record.message.split(":")[0] for record in caplog.records] == ["the tokenizer has no chat template"]
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).chat_template == PLAIN_TEMPLATE
    encoder = Encoder(tokenizer, 200)
    prompt = encoder.encode_prompt(Prompt(id="0", messages=CHAT[:1]))
    row = encoder.encode_demonstration(Demonstration(id="0", messages=CHAT))
    assert prompt is not None
    assert row is not None
    assert tokenizer.decode(list(prompt.token_ids)) == "User:\nthe cat\n\nAssistant:\n"
    assert tokenizer.decode(list(row.tokens)) == "User:\nthe cat\n\nAssistant:\nsat there<|eos|>"


def test_a_vocabulary_larger_than_the_model_is_refused_with_both_numbers() -> None:
    tokenizer = byte_tokenizer(CHATML)
    require_vocabulary_fits(tokenizer, len(tokenizer))
    with pytest.raises(DataError, match=f"has {len(tokenizer)} tokens, the model embeds only 200"):
        require_vocabulary_fits(tokenizer, 200)


def test_a_folder_without_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load_tokenizer(str(tmp_path))
    assert str(raised.value).startswith(f"no tokenizer can be loaded from {str(tmp_path)!r}")
    assert "\n" not in str(raised.value)
