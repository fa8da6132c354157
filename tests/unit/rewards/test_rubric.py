"""The number made of the parts, and what becomes of each way in which a part can fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.config import RewardPart
from rlhf.errors import ConfigError, RewardError, WorkerDied
from rlhf.rewards.asking import AskedReward
from rlhf.rewards.failures import NOT_ASKED, Failures
from rlhf.rewards.function import FunctionReward
from rlhf.rewards.rubric import Rubric
from rlhf.types import Completion, Prompt, Rollout, Score

TEXTS = ("a", "bb", "ccc")


def rollouts(texts: Sequence[str] = TEXTS, prompts: Sequence[str] | None = None) -> list[Rollout]:
    return [
        Rollout(
            prompt=Prompt(id=prompts[i] if prompts else str(i), text="?"),
            completion=Completion(token_ids=(1,), logprobs=(-1.0,), text=text, finish_reason="stop"),
        )
        for i, text in enumerate(texts)
    ]


def part(answer: Callable[[list[str]], Any], name: str = "mine", **settings: Any) -> AskedReward:
    def reward(completions: list[str]) -> Any:
        return answer(completions)

    return AskedReward(name, FunctionReward(name, reward), RewardPart(type=name, **settings))


def lengths(texts: list[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def fails_on(bad: str, value: float = 1.0) -> Callable[[list[str]], list[float]]:
    return lambda texts: [float("nan") if text == bad else value for text in texts]


# --- the sum ---------------------------------------------------------------------------------------------------------


def test_one_part_is_its_own_sum() -> None:
    scored = Rubric([part(lengths)]).score(rollouts())
    assert [r.reward for r in scored] == [1.0, 2.0, 3.0]
    assert [r.completion.text for r in scored] == list(TEXTS)
    assert all(r.error is None for r in scored)


def test_parts_are_summed_by_weight_and_kept_unweighted() -> None:
    rubric = Rubric([part(lengths, "long", weight=0.5), part(lambda texts: [10.0] * len(texts), "flat", weight=-2.0)])
    scored = rubric.score(rollouts())
    assert [r.reward for r in scored] == [-19.5, -19.0, -18.5]
    assert scored[1].reward_parts == {"long": 2.0, "flat": 10.0}


def test_what_a_part_is_made_of_is_kept_and_not_summed() -> None:
    scored = Rubric([part(lambda _: {"reward": [1.0, 2.0, 3.0], "style": [7.0, 8.0, 9.0]})]).score(rollouts())
    assert [r.reward for r in scored] == [1.0, 2.0, 3.0]
    assert scored[2].reward_parts == {"mine": 3.0, "mine/style": 9.0}


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


def test_numbers_of_other_libraries_are_taken() -> None:
    rubric = Rubric([part(lambda _: torch.tensor([1.5, 2.5, 3.5])), part(lambda _: (True, 1, 0), "bools")])
    assert [r.reward for r in rubric.score(rollouts())] == [2.5, 3.5, 3.5]


def test_parts_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def waits(texts: list[str]) -> list[float]:
        meeting.wait()
        return lengths(texts)

    scored = Rubric([part(waits, "one"), part(waits, "other")]).score(rollouts())
    assert [r.reward for r in scored] == [2.0, 4.0, 6.0]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: [1.0, float("nan"), 2.0], "failed on 1 of 3 completions, first (prompt '1'): gave nan"),
        (lambda _: [1.0, 2.0, float("inf")], "failed on 1 of 3 completions, first (prompt '2'): gave inf"),
        (lambda _: [1.0], "failed on 3 of 3 completions, first (prompt '0'): returned 1 numbers for 3 completions"),
        (lambda _: [], "returned 0 numbers for 3 completions"),
        (lambda _: [1.0] * 4, "returned 4 numbers for 3 completions"),
        (lambda _: 1.0, "must return a list, given float"),
        (lambda _: torch.tensor(1.0), "must return a list, given Tensor"),
        (lambda _: None, "must return a list, given NoneType"),
        (lambda _: "123", "must return a list, given str"),
        (lambda _: {"a": 1.0}, "must return a list under 'a', given float"),
        (lambda _: {}, "gave a dictionary without a number in it: {}"),
        (lambda _: [1.0, "2", 3.0], "must return numbers, Score or None, given '2' among them"),
        (lambda _: [1.0, [2.0], 3.0], "must return numbers, Score or None, given [2.0] among them"),
        (lambda _: torch.ones(3, 1), "must return numbers, Score or None, given [1.0] among them"),
        (lambda _: [1.0, 2.0, -1e300], "first (prompt '2'): gave -1e+300, which is infinite in the 32 bits that"),
        (lambda _: [Score(error="no verdict"), 1.0, 1.0], "(prompt '0'): no verdict"),
        (lambda _: {}["{answer}"], "raised KeyError: '{answer}'"),
        (lambda _: exit(), "raised SystemExit"),
    ],
)
def test_a_failure_stops_the_run_with_its_own_words(answer: Callable[[list[str]], Any], words: str) -> None:
    with pytest.raises(RewardError) as caught:
        Rubric([part(answer)]).score(rollouts())
    assert str(caught.value).startswith("reward 'mine' failed on ")
    assert words in str(caught.value)


def test_completions_it_was_not_asked_about_are_not_counted_as_failed() -> None:
    answers = [Score(error=NOT_ASKED), Score(error="took longer than 1 s"), Score(error=NOT_ASKED)]
    with pytest.raises(RewardError, match=r"^reward 'mine' failed on 1 of 1 completions, first .*took longer than 1 s"):
        Rubric([part(lambda _: answers)]).score(rollouts())


def test_a_failed_rollout_is_dropped_where_the_recipe_says_so_and_counted() -> None:
    rubric = Rubric([part(lengths, "long"), part(fails_on("bb"), "odd", on_error="drop")])
    scored = rubric.score(rollouts())
    assert (scored[1].reward, scored[1].error) == (None, "reward 'odd': gave nan")
    assert [scored[0].reward, scored[2].reward] == [2.0, 4.0]
    assert rubric.take_errors() == {"reward/odd/errors": 1.0}
    assert rubric.take_errors() == {}


def test_a_failed_rollout_is_given_the_penalty_where_the_recipe_says_so_and_counted() -> None:
    rubric = Rubric([part(lengths, "long"), part(fails_on("bb"), "odd", on_error="penalty", penalty=-5, weight=2)])
    scored = rubric.score(rollouts())
    assert [r.reward for r in scored] == [3.0, -8.0, 5.0]
    assert scored[1].reward_parts == {"long": 2.0, "odd": -5.0}
    assert rubric.take_errors() == {"reward/odd/errors": 1.0}


@pytest.mark.parametrize("on_error", ["drop", "penalty"])
def test_a_reward_that_fails_too_often_stops_the_run_whatever_becomes_of_its_rows(on_error: str) -> None:
    penalty = {"penalty": -1.0} if on_error == "penalty" else {}
    rubric = Rubric([part(fails_on("bad"), on_error=on_error, max_error_rate=0.25, **penalty)])
    rubric.score(rollouts(["bad"] * 8 + ["good"] * 24))  # a quarter, and no more
    with pytest.raises(RewardError, match=r"failed on 12 of the last 48 completions.*more than max_error_rate 0.2"):
        Rubric([part(fails_on("bad"), on_error=on_error, max_error_rate=0.2, **penalty)]).score(
            rollouts(["bad"] * 12 + ["good"] * 36)
        )
    rubric.score(rollouts(["good"] * 200))
    with pytest.raises(RewardError, match="failed on 90 of the last 256 completions"):
        rubric.score(rollouts(["bad"] * 90))


def test_values_out_of_the_declared_range_are_failures() -> None:
    with pytest.raises(RewardError, match=r"gave 3, out of its range of 0 to 2"):
        Rubric([part(lengths, range=(0, 2))]).score(rollouts())


def test_the_first_failure_is_kept_with_its_row_and_traceback(tmp_path: Path) -> None:
    def broken(texts: list[str]) -> list[float]:
        raise KeyError(texts[0])

    rubric = Rubric([part(broken, on_error="drop", max_error_rate=1.0)], failures=Failures(folder=tmp_path))
    rubric.score(rollouts())
    rubric.score(rollouts(["later"]))
    kept = json.loads((tmp_path / "failed_rewards" / "mine.json").read_text())
    assert kept["error"] == "raised KeyError: 'a'"
    assert any(line.endswith("in broken") for line in kept["traceback"])
    assert kept["prompt"]["id"] == "0"
    assert kept["completion"]["text"] == "a"


@pytest.mark.parametrize("error", [WorkerDied("reward worker 0 died"), ConfigError("no grader is called 'x'")])
def test_errors_that_are_not_the_rewards_stop_the_run_as_they_are(error: Exception) -> None:
    def asks(_: list[str]) -> list[float]:
        raise error

    with pytest.raises(type(error)) as caught:
        Rubric([part(asks, on_error="drop")]).score(rollouts())
    assert caught.value is error


def test_rows_that_failed_are_tried_again_and_only_those() -> None:
    asked: list[list[str]] = []

    def moody(texts: list[str]) -> list[float]:
        asked.append(texts)
        return [float("nan") if text == "bb" and len(asked) == 1 else 1.0 for text in texts]

    scored = Rubric([part(moody, retries=2)]).score(rollouts())
    assert [r.reward for r in scored] == [1.0, 1.0, 1.0]
    assert asked == [["a", "bb", "ccc"], ["bb"]]


def test_a_cached_reward_is_asked_once_about_one_completion_of_one_prompt_and_failures_are_not_kept() -> None:
    asked: list[list[str]] = []

    def counts(texts: list[str]) -> list[float]:
        asked.append(texts)
        return [float("nan") if text == "odd" else float(len(text)) for text in texts]

    rubric = Rubric([part(counts, cache=True, on_error="drop", max_error_rate=1.0)])
    rubric.score(rollouts(["a", "a", "odd"], prompts=["p", "p", "p"]))
    scored = rubric.score(rollouts(["odd", "a", "bb"], prompts=["p", "p", "p"]))
    assert asked == [["a", "odd"], ["odd", "bb"]]
    assert [r.reward for r in scored] == [None, 1.0, 2.0]


# --- gates, normalisation, order -------------------------------------------------------------------------------------


def test_a_gate_keeps_a_reward_from_being_asked_and_from_counting() -> None:
    asked: list[list[str]] = []

    def costly(texts: list[str]) -> list[float]:
        asked.append(texts)
        return [10.0] * len(texts)

    gate = {"reward": "long", "at_least": 2}
    scored = Rubric([part(costly, "costly", only_if=gate), part(lengths, "long")]).score(rollouts())
    assert asked == [["bb", "ccc"]]
    assert [r.reward for r in scored] == [1.0, 12.0, 13.0]
    assert scored[0].reward_parts == {"long": 1.0}


def test_a_gate_that_failed_is_shut() -> None:
    gate = {"reward": "odd", "at_least": 0}
    rubric = Rubric([part(fails_on("bb"), "odd", on_error="penalty", penalty=5), part(lengths, "long", only_if=gate)])
    assert [r.reward for r in rubric.score(rollouts())] == [2.0, 5.0, 4.0]


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({"one": "tow"}, r"reward 'one': only_if names 'tow', which is no reward here. Did you mean 'two'\?"),
        ({"one": "one"}, r"only_if names 'one', which is no reward here. Known: two."),
        ({"one": "two", "two": "one"}, "reward 'one': only_if names 'two', which waits for 'one' in turn"),
    ],
)
def test_gates_that_can_never_open_are_refused(gates: dict[str, str], words: str) -> None:
    parts = [
        part(lengths, name, **({"only_if": {"reward": gates[name], "at_least": 1}} if name in gates else {}))
        for name in ("one", "two")
    ]
    with pytest.raises(ConfigError, match=words):
        Rubric(parts)


def test_values_normalised_over_a_step_have_mean_0_and_deviation_1() -> None:
    scored = Rubric([part(lengths, normalize="batch", weight=2)]).score(rollouts(["a", "bbb"]))
    assert [r.reward for r in scored] == [-2.0, 2.0]
    assert [r.reward_parts["mine"] for r in scored] == [1.0, 3.0]
    assert [r.reward for r in Rubric([part(lengths, normalize="batch")]).score(rollouts(["x", "y"]))] == [0.0, 0.0]


def test_running_normalisation_is_that_of_all_values_so_far_and_goes_on_from_a_checkpoint() -> None:
    rubric = Rubric([part(lengths, normalize="running")])
    rubric.score(rollouts(["a", "bbb"]))
    resumed = Rubric([part(lengths, normalize="running")])
    resumed.restore(json.loads(json.dumps(rubric.state())))
    values = torch.tensor([1.0, 3.0, 5.0, 2.0], dtype=torch.float64)
    expected = ((values - values.mean()) / values.std(unbiased=False))[2:].tolist()
    for one in (rubric, resumed):
        assert [r.reward for r in one.score(rollouts(["e" * 5, "dd"]))] == pytest.approx(expected)


def test_in_lexicographic_order_a_later_reward_decides_between_equals_of_one_prompt_only() -> None:
    first = part(lambda texts: [float(text[0]) for text in texts], "first")
    second = part(lambda texts: [float(text[1]) for text in texts], "second", weight=-1)
    texts, prompts = ["19", "10", "00", "00", "55"], ["p", "p", "p", "p", "q"]
    scored = Rubric([first, second], combine="lexicographic").score(rollouts(texts, prompts))
    assert [r.reward for r in scored] == pytest.approx([2 / 3, 1.0, 1 / 6, 1 / 6, 0.5])
    scored = Rubric([first, second], combine="lexicographic").score(rollouts(texts[:3]))
    assert [r.reward for r in scored] == [0.5, 1.0, 0.0]


def test_a_dropped_rollout_does_not_compete() -> None:
    gone = part(fails_on("00"), "gone", on_error="drop", max_error_rate=1.0)
    first = part(lambda texts: [float(text[0]) for text in texts], "first")
    scored = Rubric([first, gone], combine="lexicographic").score(rollouts(["10", "20", "00"], ["p"] * 3))
    assert [r.reward for r in scored] == [0.0, 1.0, None]
