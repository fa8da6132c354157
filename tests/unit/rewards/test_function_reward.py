"""A plain function as a reward: what it is given, and what it is told when it asks for what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rlhf.errors import RewardError
from rlhf.rewards.function import FunctionReward
from rlhf.types import Completion, Message, Prompt, Rollout


def rollout(text: str, metadata: Mapping[str, Any] | None = None, **prompt: Any) -> Rollout:
    prompt = prompt or {"text": "how many?"}
    completion = Completion(token_ids=(5, 6), logprobs=(-1.0, -2.0), text=text, finish_reason="stop")
    return Rollout(prompt=Prompt(id="p", metadata=metadata or {}, **prompt), completion=completion)


def test_it_gets_texts_in_and_gives_numbers_out() -> None:
    def words(prompts: list[str], completions: list[str]) -> list[float]:
        return [float(len(p.split()) * 10 + len(c.split())) for p, c in zip(prompts, completions, strict=True)]

    assert FunctionReward("words", words)([rollout("one two"), rollout("three")]) == [22.0, 21.0]


def test_the_prompt_of_a_conversation_is_its_last_question_and_messages_are_all_of_it() -> None:
    messages = (
        Message(role="user", content="first"),
        Message(role="assistant", content="yes"),
        Message(role="user", content="second"),
    )
    seen: dict[str, Any] = {}

    def look(prompts: list[str], messages: list[Any], **columns: Any) -> list[float]:
        seen.update(columns, prompts=prompts, messages=messages)
        return [0.0]

    FunctionReward("look", look)([rollout("a", {"level": 3}, messages=messages, reference="b")])
    assert seen == {
        "prompts": ["second"],
        "messages": [messages],
        "completions": ["a"],
        "reference": ["b"],
        "token_ids": [[5, 6]],
        "finish_reason": ["stop"],
        "level": [3],
    }


def test_only_what_it_has_parameters_for_is_handed_over() -> None:
    def by_level(level: list[int], *, unused: str = "mine") -> list[float]:
        assert unused == "mine"
        return [float(n) for n in level]

    assert FunctionReward("by_level", by_level)([rollout("a", {"level": 2, "other": "x"})]) == [2.0]


def test_a_column_that_only_some_rows_have_is_none_for_the_others() -> None:
    def levels(level: list[int | None]) -> list[float | None]:
        return [None if n is None else float(n) for n in level]

    assert FunctionReward("levels", levels)([rollout("a", {"level": 1}), rollout("b")]) == [1.0, None]


def test_a_missing_column_is_named_with_the_nearest_there_is() -> None:
    def graded(completions: list[str], dificulty: list[int]) -> list[float]:
        raise AssertionError("not reached")

    with pytest.raises(RewardError, match=r"'graded' has a parameter 'dificulty'.*Did you mean 'difficulty'") as caught:
        FunctionReward("graded", graded)([rollout("a", {"difficulty": 1})])
    assert "Columns: completions, difficulty, finish_reason" in str(caught.value)


def test_a_column_of_the_data_cannot_take_the_place_of_the_completions() -> None:
    def echo(completions: list[str]) -> list[float]:
        assert completions == ["the policy's"]
        return [1.0]

    assert FunctionReward("echo", echo)([rollout("the policy's", {"completions": "the data's"})]) == [1.0]
