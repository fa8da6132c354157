"""Which functions are given turns where the data holds conversations, as TRL gives them; the others are given texts."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from rlhf.rewards.function import FunctionReward
from rlhf.rewards.turn_readers import reads_turns
from rlhf.types import Completion, Message, Prompt, Rollout, Score

QUESTION = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is 2 + 2?"),
)
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]


def rollout(said: str, **prompt: Any) -> Rollout:
    completion = Completion(token_ids=(5, 6), logprobs=(-1.0, -2.0), text=said, finish_reason="stop")
    return Rollout(prompt=Prompt(id="p", **(prompt or {"messages": QUESTION})), completion=completion)


# Functions in the forms of TRL's documentation and of recipes written for it, with their bodies and annotations.


def format_reward(completions: Any, **kwargs: Any) -> list[float]:
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if text.startswith("<think>") else 0.0 for text in contents]


def by_last_turn(prompts, completions, answer, **kwargs):  # type: ignore[no-untyped-def]  # as people write them
    questions = [prompt[-1]["content"] for prompt in prompts]
    assert questions == ["What is 2 + 2?"] * len(prompts)
    return [float(completion[-1].get("content") == a) for completion, a in zip(completions, answer, strict=True)]


def by_role(completions, **kwargs):  # type: ignore[no-untyped-def]
    return [float(sum(turn["role"] == "assistant" for turn in turns)) for turns in completions]


def texts_of(completions):  # type: ignore[no-untyped-def]
    return [turns[0]["content"] for turns in completions]


def by_another_function(completions, **kwargs):  # type: ignore[no-untyped-def]
    return [float(len(text)) for text in texts_of(completions)]


def annotated(completions: list[list[dict[str, str]]], **kwargs: Any) -> list[float]:
    return [float(len(turns)) for turns in completions]


class Judge:
    def __call__(self, completions, **kwargs):  # type: ignore[no-untyped-def]
        return [float(len(turns[0]["content"])) for turns in completions]


def scaled(completions, factor, **kwargs):  # type: ignore[no-untyped-def]
    return [factor * len(turns[0]["content"]) for turns in completions]


READERS = [format_reward, by_last_turn, by_role, by_another_function, annotated, Judge(), Judge().__call__]


# Functions that take texts, among them such as have to do with turns in other ways.


def length(completions, **columns):  # type: ignore[no-untyped-def]
    return [float(len(text)) for text in completions]


def asks_a_service(prompts, completions, **columns):  # type: ignore[no-untyped-def]
    asked = [[{"role": "user", "content": f"Rate this: {text}"}] for text in completions]
    replies = [{"message": {"role": "assistant", "content": str(len(turns[0]))}} for turns in asked]
    return [float(reply["message"]["content"]) + float(reply["message"].get("content")) for reply in replies]


def declared(completions: Sequence[str]) -> list[float]:
    return [float(json.loads(text)["content"]) for text in completions]


TAKERS = [length, asks_a_service, declared, len]


@pytest.mark.parametrize("function", READERS)
def test_what_reads_turns_is_given_them(function: Any) -> None:
    assert reads_turns(function)


@pytest.mark.parametrize("function", TAKERS)
def test_what_does_not_is_given_texts(function: Any) -> None:
    assert not reads_turns(function)


def test_decorated_and_partly_applied_functions_are_looked_into() -> None:
    @functools.wraps(format_reward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return format_reward(*args, **kwargs)

    assert reads_turns(wrapped)
    assert reads_turns(functools.partial(scaled, factor=2.0))


def test_turns_are_those_that_trl_hands_over() -> None:
    seen: dict[str, Any] = {}

    def look(prompts: list[list[dict[str, str]]], completions: Any, **kwargs: Any) -> list[float]:
        seen.update(prompts=prompts, completions=completions, kwargs=kwargs)
        return [0.0]

    FunctionReward("look", look)([rollout("4", messages=QUESTION, metadata={"answer": "4"})])
    assert seen["prompts"] == [TURNS]
    assert seen["completions"] == [[{"role": "assistant", "content": "4"}]]
    assert seen["kwargs"]["answer"] == ["4"]
    assert seen["kwargs"]["completion_ids"] == [[5, 6]]


def test_a_function_of_turns_judges_conversations() -> None:
    rows = [rollout("4", messages=QUESTION, metadata={"answer": text}) for text in ("4", "5")]
    assert FunctionReward("theirs", by_last_turn)(rows) == [Score(value=1.0), Score(value=0.0)]
    assert FunctionReward("theirs", format_reward)([rollout("<think>")]) == [Score(value=1.0)]


def test_rows_that_are_no_conversations_are_texts_for_all_as_in_trl() -> None:
    def look(prompts: list[Any], completions: list[dict[str, str]]) -> list[float]:
        assert (prompts, completions) == (["2 + 2 ="], ["4"])
        return [1.0]

    assert FunctionReward("look", look)([rollout("4", text="2 + 2 =")]) == [Score(value=1.0)]


def test_texts_stay_texts_in_the_other_forms() -> None:
    def of_a_row(prompt: Any, completion: Any) -> float:
        return float((prompt, completion) == ("What is 2 + 2?", "4") or completion[0]["content"])

    def openrlhf(queries: Any, prompts: Any, labels: Any) -> list[float]:
        return [float(query == prompt + "4" or query[0]["content"]) for query, prompt in zip(queries, prompts)]  # noqa: B905

    assert FunctionReward("row", of_a_row)([rollout("4")]) == [Score(value=1.0)]
    assert FunctionReward("openrlhf", openrlhf)([rollout("4")]) == [Score(value=1.0)]


def test_what_it_does_to_its_turns_is_its_own_business() -> None:
    def takes_away(prompts, completions):  # type: ignore[no-untyped-def]
        return [float(prompt.pop()["content"] == "What is 2 + 2?") for prompt in prompts]

    reward, row = FunctionReward("takes", takes_away), rollout("4")
    assert reward([row]) == reward([row]) == [Score(value=1.0)]


def test_trls_own_rewards_work_unchanged() -> None:
    rewards = pytest.importorskip("trl.rewards")
    said = [rollout("<think>\n2 and 2\n</think>\n4"), rollout("4")]
    assert FunctionReward("think", rewards.think_format_reward)(said) == [Score(value=1.0), Score(value=0.0)]
