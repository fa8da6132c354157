"""The chat templates of 41 real models: rendered as their authors' tests say, masked as their models speak."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rlhf.data.chat import ChatRenderer
from rlhf.data.encode import Encoder
from rlhf.errors import DataError
from rlhf.types import Demonstration, Message, Prompt
from tests.conftest import find_data_dir
from tests.unit.data.builders import byte_tokenizer

# Not chat models: a classifier that sees the last exchange only.
NO_CONVERSATIONS = {"meta-llama/Llama-Guard-3-11B-Vision"}
# What a model says before its content, in (an inner, the last) turn: its own header or an empty thought.
SAID_FIRST = {
    "Qwen/Qwen3-0.6B": ("", "<think>\n\n</think>\n\n"),
    "Qwen/Qwen3.5-4B": ("", "\n</think>\n\n"),  # after "<think>\n" of the generation prompt
    "zai-org/GLM-5.1": ("", "</think>"),  # after "<think>" of the generation prompt
    "meetkai/functionary-medium-v2.2": ("all\n<|content|>", "all\n<|content|>"),
}
# Templates in which nothing marks the end of a turn: EOS stands in at the end, inner turns go without.
NO_END = {
    "blenderbot",
    "blenderbot_small",
    "upstage/SOLAR-10.7B-Instruct-v1.0",
    "codellama/CodeLlama-70b-Instruct-hf",
    "Deci/DeciLM-7B-instruct",
    "maywell/Synatra-Mixtral-8x7B",
    "maywell/PiVoT-MoE",
}


@cache
def cases() -> dict[str, dict[str, Any]]:
    folder = find_data_dir()
    path = folder / "fixtures" / "chat_templates.json" if folder else Path("absent")
    return {case["name"]: case for case in json.loads(path.read_text("utf-8"))} if path.exists() else {}


def names() -> list[Any]:
    return list(cases()) or [pytest.param("", marks=pytest.mark.skip(reason="no data: set RLHF_DATA_DIR"))]


def tokenizer_of(case: dict[str, Any]) -> Any:
    special = {name: case["data"][name] for name in ("bos_token", "eos_token") if case["data"].get(name)}
    return byte_tokenizer(case["chat_template"], **{"eos_token": "<|eos|>", **special})


def variables_of(case: dict[str, Any]) -> dict[str, Any]:
    used = ("messages", "add_generation_prompt", "bos_token", "eos_token")
    return {name: value for name, value in case["data"].items() if name not in used}


def test_all_are_there(data_dir: Path) -> None:
    assert len(cases()) == 41


@pytest.mark.parametrize("name", names())
def test_rendered_as_published(name: str) -> None:
    case = cases()[name]
    prompt = case["data"].get("add_generation_prompt", False)
    text = tokenizer_of(case).apply_chat_template(
        case["data"]["messages"], tokenize=False, add_generation_prompt=prompt, **variables_of(case)
    )
    assert text == case["target"]


CONVERSATION = (
    Message(role="user", content="First QUESTION?"),
    Message(role="assistant", content="An answer, 'quoted'\nover two lines."),
    Message(role="user", content="assistant? ANOTHER user"),
    Message(role="assistant", content="user"),
)


@pytest.mark.parametrize("name", sorted(set(names()) - NO_CONVERSATIONS) if cases() else names())
def test_masks_cover_the_assistant_and_nothing_else(name: str) -> None:
    case = cases()[name]
    tokenizer = tokenizer_of(case)
    renderer = ChatRenderer(tokenizer, **variables_of(case))
    rendered = renderer.conversation(CONVERSATION)
    said = [rendered.text[turn.span.start : turn.span.end] for turn in rendered.turns]
    inner, last = SAID_FIRST.get(name, ("", ""))
    for text, first, message in zip(said, (inner, last), CONVERSATION[1::2], strict=True):
        head, content, end = text.partition(message["content"])
        assert (head.strip(), content) == (first.strip(), message["content"])
        assert end.strip() in tokenizer.all_special_tokens or (name in NO_END and end == "")
        assert "QUESTION" not in text
        assert "ANOTHER" not in text
    assert rendered.text.startswith(renderer.prompt(CONVERSATION[:-1]).text)
    assert rendered.turns[-1].span.end == len(rendered.text)


@pytest.mark.parametrize("name", sorted(set(names()) - NO_CONVERSATIONS) if cases() else names())
def test_rows_continue_their_prompts_and_end_in_a_stop(name: str) -> None:
    """Token for token: what is trained in the last turn follows what the policy is given when it samples."""
    case = cases()[name]
    encoder = Encoder(tokenizer_of(case), max_length=8192, **variables_of(case))
    row = encoder.encode_demonstration(Demonstration(id="0", messages=CONVERSATION))
    prompt = encoder.encode_prompt(Prompt(id="0", messages=CONVERSATION[:-1]))
    assert row is not None
    assert prompt is not None
    length = len(prompt.token_ids)
    assert row.tokens[:length] == prompt.token_ids
    assert all(row.trained[length:])
    assert row.tokens[-1] in encoder.stop_ids


@pytest.mark.parametrize("name", sorted(set(names()) - NO_CONVERSATIONS) if cases() else names())
def test_thinking_is_trained_in_a_last_turn_whatever_the_template_drops(name: str) -> None:
    case = cases()[name]
    renderer = ChatRenderer(tokenizer_of(case), **variables_of(case))
    answer = Message(role="assistant", content="<think>\nhm\n</think>\n\nSo.")
    rendered = renderer.conversation((*CONVERSATION[:1], answer))
    prompt = renderer.prompt(CONVERSATION[:1]).text
    said = rendered.text[rendered.turns[-1].span.start :]
    assert rendered.text.startswith(prompt)
    assert "hm\n</think>\n\nSo." in said
    assert (prompt + said).count("<think>") == 1


def test_templates_without_conversations_are_refused(data_dir: Path) -> None:
    for name in NO_CONVERSATIONS:
        with pytest.raises(DataError, match="leaves out part of turn 2"):
            ChatRenderer(tokenizer_of(cases()[name])).conversation(CONVERSATION)


def test_masks_are_those_of_generation_blocks(data_dir: Path) -> None:
    """Where a template marks what is generated, we agree, but for whitespace behind the end of a turn."""
    case = cases()["LiquidAI/LFM2.5-VL-450M"]
    tokenizer = tokenizer_of(case)
    marked = tokenizer.apply_chat_template(list(CONVERSATION), return_assistant_tokens_mask=True)
    row = Encoder(tokenizer, max_length=8192).encode_demonstration(Demonstration(id="0", messages=CONVERSATION))
    assert row is not None
    newline = tokenizer.convert_tokens_to_ids("Ċ")
    theirs = list(zip(marked["input_ids"], map(bool, marked["assistant_masks"]), strict=True))
    ours = list(zip(row.tokens, row.trained, strict=True))
    after_turn = [n for n, pair in enumerate(theirs) if pair == (newline, True) and ours[n : n + 1] != [pair]]
    assert len(after_turn) == 2
    assert [pair for n, pair in enumerate(theirs) if n not in after_turn] == [
        pair for n, pair in enumerate(ours) if n not in after_turn
    ]
