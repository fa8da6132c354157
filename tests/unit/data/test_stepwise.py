"""Completions judged step by step: their rows, and where steps end in tokens."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.config import NewTokenizerConfig
from rlhf.data.dataset import RowsConfig, RowsDataset
from rlhf.data.encode import Encoder
from rlhf.data.formats import detect
from rlhf.data.spans import Span
from rlhf.data.steps import step_ends
from rlhf.data.tokenizers import new_tokenizer
from rlhf.errors import DataError
from rlhf.pocket.dataset import PocketConfig, PocketDataset
from rlhf.types import Message, Prompt, SteppedCompletion

ROW = {"prompt": "What is 2 + 3 + 4?", "completions": ["2 + 3 = 5", "5 + 4 = 8"], "labels": [True, False]}


def rows(*given: dict[str, Any], **options: Any) -> RowsDataset:
    return RowsDataset(RowsConfig(rows=given, **options))


def encoder(kind: str = "bytes", **options: Any) -> Encoder:
    texts = ["What is 2 + 3 + 4 ? = 5 8 9 a b c d user assistant"] * 3
    config = NewTokenizerConfig(type=kind, vocab_size=300)  # type: ignore[arg-type]
    return Encoder(new_tokenizer(config, texts), **{"max_length": 200} | options)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_is_known_by_its_columns_and_read_as_it_is() -> None:
    assert detect(ROW, "x").name == "stepwise"
    data = rows(ROW)
    assert dict(data.sizes) == {"prompts": 1, "stepwise": 1}
    stepped = next(data.stepwise(0))
    assert (stepped.steps, stepped.labels) == (("2 + 3 = 5", "5 + 4 = 8"), (True, False))
    assert stepped.prompt.text == ROW["prompt"]
    as_chat = next(rows(ROW, chat=True).stepwise(0))
    assert as_chat.prompt.messages == ({"role": "user", "content": ROW["prompt"]},)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [True]}, r"`completions` has 2 steps and `labels` 1"),
        ({"labels": [True, 3]}, r"`labels\[1\]` should be true or false, is 3"),
        ({"labels": [True, "maybe"]}, r"`labels\[1\]` should be true or false, is 'maybe'"),
        ({"labels": []}, r"`labels` should be a list"),
        ({"labels": True}, r"`labels` should be a list"),
        ({"completions": ["a", " "]}, r"`completions\[1\]` is empty"),
        ({"completions": []}, r"`completions` should be a list"),
        ({"prompt": ""}, r"`prompt` is empty"),
    ],
)
def test_a_bad_row_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(ROW | change)


def test_the_embedded_world_judges_word_by_word() -> None:
    data = PocketDataset(PocketConfig(num_rankings=50))
    seen = set()
    for number, stepped in zip(range(50), data.stepwise(0), strict=False):
        right = str(stepped.prompt.metadata["answer"]).split()
        assert list(stepped.labels) == [
            list(stepped.steps[: end + 1]) == right[: end + 1] for end in range(len(stepped.steps))
        ], number
        seen |= set(stepped.labels)
    assert seen == {True, False}


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_ends_by_hand() -> None:
    spans = [Span(0, 1), Span(1, 3), Span(3, 4), Span(4, 6)]
    assert step_ends("pab;cd", 1, ["ab", "cd"], spans) == [1, 3]
    assert step_ends("pab;cd", 1, ["ab;c"], spans) == [3]
    assert step_ends("pab;cd", 1, ["a", "b"], spans) is None  # both end in one token
    assert step_ends("p", 1, [""], [Span(0, 1)]) == [0]  # nothing was said


@pytest.mark.parametrize("kind", ["bytes", "words"])
@pytest.mark.parametrize("chat", [False, True])
def test_the_last_token_of_each_step_is_marked(kind: str, chat: bool) -> None:
    asked = "What is 2 + 3 + 4 ?"
    prompt = (
        Prompt(id="0", messages=(Message(role="user", content=asked),)) if chat else Prompt(id="0", text=asked + " ")
    )
    made = encoder(kind)
    row = made.encode_stepwise(
        SteppedCompletion(prompt=prompt, steps=("2 + 3 = 5", "5 + 4 = 8"), labels=(True, False)), " "
    )
    assert row is not None
    ends = [number for number, last in enumerate(row.row.trained) if last]
    assert len(ends) == 2
    for end, tail in zip(ends, ("2 + 3 = 5", "2 + 3 = 5 5 + 4 = 8"), strict=True):
        text = made.tokenizer.decode(row.row.tokens[: end + 1], skip_special_tokens=False)
        assert "".join(text.split()).endswith("".join(tail.split()))
    batch = made.step_batch([row, row])
    assert batch.labels.sum(1).tolist() == [1, 1]
    assert batch.labels[0, ends[0]]
    assert (batch.response_mask | ~batch.labels).all()


def test_steps_beyond_the_longest_length_are_cut_dropped_or_refused() -> None:
    prompt = Prompt(id="p", text="a ")
    stepped = SteppedCompletion(prompt=prompt, steps=("b", "c", "d"), labels=(True, True, False))
    whole = encoder("words").encode_stepwise(stepped, " ")
    assert whole is not None
    short = encoder("bytes", max_length=5, overlong="cut")
    row = short.encode_stepwise(stepped, " ")
    assert row is not None
    assert row.labels == (True, True)
    assert (len(row.row), short.cut, short.dropped) == (5, 1, 0)
    dropping = encoder("bytes", max_length=5, overlong="drop")
    assert dropping.encode_stepwise(stepped, " ") is None
    assert (dropping.cut, dropping.dropped) == (0, 1)
    with pytest.raises(DataError, match=r"p has .* tokens, the limit is 5"):
        encoder("bytes", max_length=5, overlong="error").encode_stepwise(stepped, " ")
