"""The weighted sum of the parts, and what becomes of each way in which a part can fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from rlhf.errors import ConfigError, RewardError, WorkerDied
from rlhf.rewards.function import FunctionReward
from rlhf.rewards.rubric import Rubric, WeightedReward
from rlhf.types import Completion, Prompt, Rollout

TEXTS = ("a", "bb", "ccc")


def rollouts(texts: Sequence[str] = TEXTS) -> list[Rollout]:
    return [
        Rollout(
            prompt=Prompt(id=str(i), text="?"),
            completion=Completion(token_ids=(1,), logprobs=(-1.0,), text=text, finish_reason="stop"),
        )
        for i, text in enumerate(texts)
    ]


def part(answer: Callable[[list[str]], Any], name: str = "mine", weight: float = 1.0) -> WeightedReward:
    def reward(completions: list[str]) -> Any:
        return answer(completions)

    return WeightedReward(name, weight, FunctionReward(name, reward))


def lengths(texts: list[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def test_one_part_is_its_own_sum() -> None:
    scored = Rubric([part(lengths)]).score(rollouts())
    assert [r.reward for r in scored] == [1.0, 2.0, 3.0]
    assert [r.completion.text for r in scored] == list(TEXTS)
    assert all(r.error is None for r in scored)


def test_parts_are_summed_by_weight_and_kept_unweighted() -> None:
    rubric = Rubric([part(lengths, "long", 0.5), part(lambda texts: [10.0] * len(texts), "flat", -2.0)])
    scored = rubric.score(rollouts())
    assert [r.reward for r in scored] == [-19.5, -19.0, -18.5]
    assert scored[1].reward_parts == {"long": 2.0, "flat": 10.0}


def test_a_part_may_pass_over_a_rollout() -> None:
    rubric = Rubric([part(lengths, "long"), part(lambda _: [None, 5.0, None], "some")])
    scored = rubric.score(rollouts())
    assert [r.reward for r in scored] == [1.0, 7.0, 3.0]
    assert scored[0].reward_parts == {"long": 1.0}


def test_a_rollout_no_part_speaks_of_is_an_error_and_not_a_zero() -> None:
    scored = Rubric([part(lambda _: [None, 1.0, 2.0])]).score(rollouts())
    assert scored[0].reward is None
    assert scored[0].error == "no reward applies (all of mine gave None)"
    assert [r.reward for r in scored[1:]] == [1.0, 2.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_an_error_of_that_rollout_only(bad: float) -> None:
    rubric = Rubric([part(lengths, "long"), part(lambda _: [0.0, bad, 0.0], "odd")])
    scored = rubric.score(rollouts())
    assert scored[1].reward is None
    assert scored[1].error == f"reward 'odd' gave {bad}"
    assert [scored[0].reward, scored[2].reward] == [1.0, 3.0]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_list_of_another_length_ends_the_run_and_is_never_spread(count: int) -> None:
    with pytest.raises(RewardError, match=f"'mine' returned {count} numbers for 3 completions"):
        Rubric([part(lambda _: [1.0] * count)]).score(rollouts())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1.0, "must return a list, given float"),
        (None, "must return a list, given NoneType"),
        ("123", "must return a list, given str"),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, "must return a list, given dict"),
        ([1.0, "2", 3.0], "must return numbers, Score or None, given '2' among them"),
        ([1.0, [2.0], 3.0], r"must return numbers, Score or None, given \[2.0\] among them"),
    ],
)
def test_what_is_no_list_of_numbers_ends_the_run(answer: Any, words: str) -> None:
    with pytest.raises(RewardError, match=f"reward 'mine' {words}"):
        Rubric([part(lambda _: answer)]).score(rollouts())


def test_numbers_of_other_libraries_are_taken() -> None:
    scored = Rubric([part(lambda _: torch.tensor([1.5, 2.5, 3.5])), part(lambda _: (True, 1, 0), "bools")])
    assert [r.reward for r in scored.score(rollouts())] == [2.5, 3.5, 3.5]


def test_a_part_that_raises_ends_the_run_by_name_with_its_own_words() -> None:
    def broken(_: list[str]) -> list[float]:
        raise KeyError("answer")

    with pytest.raises(RewardError, match="reward 'mine' raised KeyError: 'answer'") as caught:
        Rubric([part(broken)]).score(rollouts())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [WorkerDied("reward worker 0 died"), ConfigError("no grader is called 'x'")])
def test_errors_that_have_their_own_words_keep_them(error: Exception) -> None:
    def asks(_: list[str]) -> list[float]:
        raise error

    with pytest.raises(type(error)) as caught:
        Rubric([part(asks)]).score(rollouts())
    assert caught.value is error
