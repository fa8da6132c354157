"""What clients may ask, and what they are told where they may not; texts as they can be told while being written."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf.serving.answer_text import AnswerText
from rlhf.serving.openai_requests import ChatRequest, CompletionRequest
from rlhf.serving.refusals import Refusal, read_as
from rlhf.serving.reward_routes import OpenRlhfRequest, RewardRequest
from rlhf.serving.settings import Limits

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"messages": HELLO}
REFUSED = [
    (ChatRequest, [], "the body should be a JSON object, is list"),
    (ChatRequest, {}, "messages: required, and not given."),
    (ChatRequest, {"messages": []}, "messages: tuple should have at least 1 item"),
    (ChatRequest, {"mesages": HELLO}, "mesages: unknown key. Did you mean 'messages'?"),
    (ChatRequest, {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: input should be 'system',"),
    (ChatRequest, {"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    (ChatRequest, {**CHAT, "temperature": 2.5}, "temperature: input should be less than or equal to 2"),
    (ChatRequest, {**CHAT, "temperature": float("nan")}, "temperature: "),
    (ChatRequest, {**CHAT, "max_tokens": 0}, "max_tokens: input should be greater than or equal to 1"),
    (ChatRequest, {**CHAT, "n": 100}, "n: input should be less than or equal to 16"),
    (ChatRequest, {**CHAT, "stop": ["x"] * 17}, "stop: tuple should have at most 16 items"),
    (ChatRequest, {**CHAT, "stop": ""}, "stop.0: string should have at least 1 character"),
    (ChatRequest, {**CHAT, "tools": []}, "tools: unknown key."),
    (ChatRequest, {**CHAT, "presence_penalty": 0.5}, "presence_penalty: penalties are not served"),
    (CompletionRequest, {"prompt": []}, "prompt"),
    (RewardRequest, {"completions": ["x"]}, "prompts: required, and not given."),
    (RewardRequest, {"prompts": ["x"], "completions": ["x"], "version": 2}, "version: input should be 1"),
    (OpenRlhfRequest, {"query": []}, "query: tuple should have at least 1 item"),
]


@pytest.mark.parametrize(("model", "value", "message"), REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(model, value, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_as(model, value)
    assert caught.value.status == 400
    assert caught.value.message.startswith(message), caught.value.message
    assert "\n" not in caught.value.message


def test_what_was_sent_is_repeated_in_part_only() -> None:
    with pytest.raises(Refusal) as caught:
        read_as(ChatRequest, {**CHAT, "stream": "y" * 100_000})
    assert len(caught.value.message) < 500


def test_a_chat_is_told_to_the_policy_as_it_is() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    asked = read_as(ChatRequest, {"messages": turns, "stop": "x", "seed": -1, "temperature": 1e-6, "max_tokens": 7})
    told = asked.for_policy(Limits())
    assert told["messages"] == ({"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"})
    assert (told["stop"], told["wanted_tokens"], told["temperature"]) == (("x",), 7, 0.0)
    assert 0 <= told["seed"] < 2**31
    with pytest.raises(ValueError, match="max_tokens: at most 5 are written here, given 7"):
        asked.for_policy(Limits(max_tokens=5))


def test_rows_of_rewards_have_one_entry_in_each_list() -> None:
    asked = read_as(RewardRequest, {"prompts": ["p", HELLO], "completions": ["a", "b"], "ids": ["1", None]})
    first, second = asked.rows()
    assert (first["text"], first["messages"], first["id"]) == ("p", None, "1")
    assert (second["text"], second["messages"], second["finish_reason"]) == (None, tuple(HELLO), "stop")
    with pytest.raises(Refusal, match="2 completions, and 1 entries for reference"):
        read_as(RewardRequest, {"prompts": ["p", "q"], "completions": ["a", "b"], "references": ["x"]}).rows()
    asked = read_as(OpenRlhfRequest, {"query": ["ask answer"], "prompts": ["ask"], "labels": ["7"], "more": 1})
    assert asked.rows()[0]["completion"] == " answer"
    assert asked.rows()[0]["reference"] == "7"
    with pytest.raises(Refusal, match="a query should begin with its prompt"):
        read_as(OpenRlhfRequest, {"query": ["x"], "prompts": ["ask"]}).rows()


# --- text while it is being written ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes, so that one character may be several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def told(tokenizer, text: str, stop=(), size: int = 1) -> list[str]:
    ids = tokenizer(text)["input_ids"]
    answer = AnswerText(tokenizer, stop)
    pieces = []
    for start in range(0, len(ids), size):
        pieces.append(answer.read(ids[start : start + size]))
        if answer.ended:
            break
    return [*pieces, answer.rest()]


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("text", ["", " a  b ", "naïve 👩‍👩‍👧 été", "\n\n"])
def test_pieces_join_to_the_whole(tokenizer, text: str, size: int) -> None:
    assert "".join(told(tokenizer, text, size=size)) == text
    assert "".join(told(tokenizer, text, stop=("no such text",), size=size)) == text
    assert all("\ufffd" not in piece for piece in told(tokenizer, text, size=size))


def test_nothing_of_a_stop_string_is_told(tokenizer) -> None:
    for size in (1, 2, 7):
        assert "".join(told(tokenizer, "one STOP two", stop=("STOP", "two"), size=size)) == "one "
        assert "".join(told(tokenizer, "one STO two", stop=("STOP",), size=size)) == "one STO two"
    pieces = told(tokenizer, "ab STO", stop=("STOP",))
    assert pieces == ["a", "b", " ", "", "", "", "STO"]


def test_half_a_character_at_the_end_is_told_as_such(tokenizer) -> None:
    ids = tokenizer("aé")["input_ids"][:-1]
    answer = AnswerText(tokenizer, ())
    assert answer.read(ids) + answer.rest() == tokenizer.decode(ids) == "a\ufffd"
