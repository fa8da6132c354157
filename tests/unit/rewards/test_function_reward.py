"""A plain function as a reward: what it is given, and what it is told when it asks for what is not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from rlhf.errors import RewardError, WorkerDied
from rlhf.rewards.function import FunctionReward
from rlhf.types import Completion, Message, Prompt, Rollout, Score


def rollout(said: str, metadata: Mapping[str, Any] | None = None, **prompt: Any) -> Rollout:
    prompt = prompt or {"text": "how many?"}
    completion = Completion(token_ids=(5, 6), logprobs=(-1.0, -2.0), text=said, finish_reason="stop")
    return Rollout(prompt=Prompt(id="p", metadata=metadata or {}, **prompt), completion=completion)


def values(scores: Sequence[Score]) -> list[float | None]:
    assert not [score.error for score in scores if score.error]
    return [score.value for score in scores]


def test_it_gets_texts_in_and_gives_numbers_out() -> None:
    def words(prompts: list[str], completions: list[str]) -> list[float]:
        return [float(len(p.split()) * 10 + len(c.split())) for p, c in zip(prompts, completions, strict=True)]

    assert values(FunctionReward("words", words)([rollout("one two"), rollout("three")])) == [22.0, 21.0]


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
        "queries": ["seconda"],
        "labels": ["b"],
        "token_ids": [[5, 6]],
        "completion_ids": [[5, 6]],
        "finish_reason": ["stop"],
        "level": [3],
    }


def test_only_what_it_has_parameters_for_is_handed_over() -> None:
    def by_level(level: list[int], *, unused: str = "mine") -> list[float]:
        assert unused == "mine"
        return [float(n) for n in level]

    assert values(FunctionReward("by_level", by_level)([rollout("a", {"level": 2, "other": "x"})])) == [2.0]


def test_a_column_that_only_some_rows_have_is_none_for_the_others() -> None:
    def levels(level: list[int | None]) -> list[float | None]:
        return [None if n is None else float(n) for n in level]

    assert values(FunctionReward("levels", levels)([rollout("a", {"level": 1}), rollout("b")])) == [1.0, None]


def test_a_missing_column_is_named_with_the_nearest_there_is() -> None:
    def graded(completions: list[str], dificulty: list[int]) -> list[float]:
        raise AssertionError("not reached")

    with pytest.raises(RewardError, match=r"has a parameter 'dificulty'.*Did you mean 'difficulty'") as caught:
        FunctionReward("graded", graded)([rollout("a", {"difficulty": 1})])
    assert "Columns: completion_ids, completions, difficulty, finish_reason" in str(caught.value)


def test_a_column_of_the_data_cannot_take_the_place_of_the_completions() -> None:
    def echo(completions: list[str]) -> list[float]:
        assert completions == ["the policy's"]
        return [1.0]

    assert values(FunctionReward("echo", echo)([rollout("the policy's", {"completions": "the data's"})])) == [1.0]


# --- functions people have already ----------------------------------------------------------------------------------

ROW = rollout("18", {"data_source": "gsm8k", "level": 2}, text="how many?", reference="18")


def verl(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, float]:
    assert (data_source, extra_info) == ("gsm8k", {"data_source": "gsm8k", "level": 2})
    return {"score": float(solution_str == ground_truth), "length": len(solution_str)}


def openrlhf(queries: list[str], prompts: list[str], labels: list[str]) -> dict[str, Any]:
    assert queries == ["how many?18"]
    right = torch.tensor([float(q.endswith(label)) for q, label in zip(queries, labels, strict=True)])
    return {"rewards": right, "scores": right / 2, "extra_logs": {"num_prompts": torch.tensor([len(prompts)])}}


def trl(prompts: list[str], completions: list[str], level: list[int], **kwargs: Any) -> list[float]:
    return [float(len(text) * number) for text, number in zip(completions, level, strict=True)]


def per_sample(prompt: str, completion: str, level: int, reference: str | None = None) -> float:
    return float(completion == reference) * level


async def per_sample_async(completion: str) -> np.float32:
    await asyncio.sleep(0)
    return np.float32(len(completion))


async def batch_async(completions: list[str]) -> np.ndarray:
    await asyncio.sleep(0)
    return np.array([len(text) for text in completions])


class CallableObject:
    async def __call__(self, completion: str) -> float:
        return 7.0


@pytest.mark.parametrize(
    ("function", "score"),
    [
        (verl, Score(value=1.0, parts={"length": 2.0})),
        (openrlhf, Score(value=1.0, parts={"scores": 0.5, "num_prompts": 1.0})),
        (trl, Score(value=4.0)),
        (per_sample, Score(value=2.0)),
        (per_sample_async, Score(value=2.0)),
        (batch_async, Score(value=2.0)),
        (CallableObject(), Score(value=7.0)),
        (lambda completion: None, Score()),
        (lambda completions: {"right": [0.25], "short": [0.5]}, Score(value=0.75, parts={"right": 0.25, "short": 0.5})),
        (lambda completions: [{"reward": 1, "style": 2}], Score(value=1.0, parts={"style": 2.0})),
        (lambda completions: [Score(error="no verdict")], Score(error="no verdict")),
    ],
)
def test_functions_are_called_as_their_parameters_say(function: Any, score: Score) -> None:
    assert FunctionReward("theirs", function)([ROW]) == [score]


def verl_batch(data_sources: list[str], solution_strs: list[str], ground_truths: list[str], extra_infos: Any) -> Any:
    assert (data_sources, extra_infos) == (["gsm8k"], [{"data_source": "gsm8k", "level": 2}])
    return [float(said == truth) for said, truth in zip(solution_strs, ground_truths, strict=True)]


def test_verls_batches_have_names_in_the_plural() -> None:
    reward = FunctionReward("theirs", verl_batch)
    assert values(reward([ROW])) == [1.0]
    assert reward.columns == ()


def test_ground_truth_is_found_where_verl_keeps_it() -> None:
    def truth(solution_str: str, ground_truth: Any) -> float:
        return float(ground_truth)

    nested = rollout("x", {"reward_model": {"style": "rule", "ground_truth": "5"}})
    column = rollout("x", {"ground_truth": "6"})
    reference = rollout("x", text="?", reference="7")
    assert values(FunctionReward("truth", truth)([nested, column, reference])) == [5.0, 6.0, 7.0]


def test_columns_it_cannot_do_without_are_known_before_it_is_called() -> None:
    def needs(completions: list[str], level: list[int], answer: list[str], style: Any = None) -> list[float]:
        raise AssertionError("not reached")

    assert FunctionReward("needs", needs).columns == ("answer", "level")
    assert FunctionReward("verl", verl).columns == ()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_row_that_raises_is_one_row(concurrency: int) -> None:
    def odd(completion: str) -> float:
        if completion == "b":
            raise ValueError("not this one")
        return 1.0

    scores = FunctionReward("odd", odd, concurrency=concurrency)([rollout(text) for text in "abc"])
    assert [score.value for score in scores] == [1.0, None, 1.0]
    assert scores[1].error == "raised ValueError: not this one"
    assert "in odd" in scores[1].details


def test_as_many_rows_are_judged_at_a_time_as_the_recipe_says() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(3, timeout=20)

    def judge(completion: str) -> float:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        full.wait()
        with lock:
            at_once -= 1
        return 1.0

    assert values(FunctionReward("judge", judge, concurrency=3)([rollout("a")] * 9)) == [1.0] * 9
    assert most == 3


def test_an_async_row_that_takes_too_long_is_cancelled_and_the_others_are_not() -> None:
    cancelled = []

    async def judge(completion: str) -> float:
        try:
            await asyncio.sleep(60 if completion == "b" else 0)
        except asyncio.CancelledError:
            cancelled.append(completion)
            raise
        return 1.0

    scores = FunctionReward("judge", judge, timeout=0.2)([rollout(text) for text in "abc"])
    assert [score.error for score in scores] == [None, "took longer than 0.2 s", None]
    assert cancelled == ["b"]


def test_an_async_client_lives_from_one_call_to_the_next() -> None:
    loops = set()

    async def judge(completion: str) -> float:
        loops.add(asyncio.get_running_loop())
        return 1.0

    reward = FunctionReward("judge", judge)
    reward([rollout("a")])
    reward([rollout("b")])
    assert len(loops) == 1


async def lost_async(completion: str) -> float:
    raise WorkerDied("reward worker 0 died")


def lost(completion: str) -> float:
    raise WorkerDied("reward worker 0 died")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("function", "concurrency"), [(lost, 1), (lost, 4), (lost_async, 4)])
def test_what_is_not_the_rewards_own_failure_ends_the_call_and_is_not_waited_for(
    function: Any, concurrency: int
) -> None:
    with pytest.raises(WorkerDied, match="reward worker 0 died"):
        FunctionReward("lost", function, concurrency=concurrency)([rollout("a")] * 3)


@pytest.mark.timeout(60)
def test_an_async_row_that_exits_is_one_row() -> None:
    async def leaves(completion: str) -> float:
        if completion == "b":
            raise SystemExit(3)
        return 1.0

    scores = FunctionReward("leaves", leaves)([rollout(text) for text in "abc"])
    assert [score.error for score in scores] == [None, "raised SystemExit: 3", None]
