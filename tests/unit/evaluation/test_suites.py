"""The 3H suite: prompts graded on their own axis; failures counted, never zeros."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError, RewardError
from rlhf.evaluation.suites import SUITES, THREE_H, evaluate, suite_graders, suite_named, suite_prompts
from rlhf.registry import Entry, Registry
from rlhf.types import Axis, Completion, Grade, Prompt, Rollout, Sampling


class Parrot:
    """Answers each prompt with its own text, once for each sample."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        def say(prompt: Prompt, i: int) -> Completion:
            return Completion(token_ids=(1,), logprobs=(0.0,), text=f"{prompt.text} {i}", finish_reason="stop")

        return [[say(prompt, i) for i in range(sampling.num_samples)] for prompt in prompts]

    def load_weights(self, weights: Iterator[tuple[str, Any]], version: int) -> None:
        raise NotImplementedError

    def sleep(self) -> None: ...

    def wake(self) -> None: ...


class Marks:
    """Gives what `judge` says of each completion's text; an exception becomes a failed grade."""

    def __init__(self, axis: Axis, judge: Callable[[str], float]) -> None:
        self.axis = axis
        self.judge = judge

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        return [self._grade(rollout.completion.text) for rollout in rollouts]

    def _grade(self, text: str) -> Grade:
        try:
            return Grade(axis=self.axis, score=self.judge(text), rationale="because")
        except ValueError as error:
            return Grade(axis=self.axis, score=None, error=str(error))


def prompt(id_: str, axis: str, text: str) -> Prompt:
    return Prompt(id=id_, text=text, metadata={"axis": axis, "task": "count"})


def fits(prompt: Prompt) -> Prompt | None:
    return None if "too long" in (prompt.text or "") else replace(prompt, token_ids=(1, 2))


def no_prompt_fails(text: str) -> float:
    if "fail" in text:
        raise ValueError("judge timed out")
    return 1.0 if "good" in text else 0.25


def graders() -> dict[Axis, Marks]:
    return {axis: Marks(axis, no_prompt_fails) for axis in ("helpful", "honest", "harmless")}


PROMPTS = [
    prompt("a", "helpful", "good"),
    prompt("b", "helpful", "bad"),
    prompt("c", "honest", "fail"),
    prompt("d", "honest", "good"),
    prompt("e", "harmless", "fail"),
    prompt("f", "helpful", "too long"),
]


def test_failed_grades_are_counted_and_left_out() -> None:
    result = evaluate(THREE_H, Parrot(), fits, graders(), PROMPTS, Sampling(max_tokens=8))
    assert result.scores() == {"helpful": 0.625, "honest": 1.0, "harmless": None}
    assert {axis: score.failed for axis, score in result.axes.items()} == {"helpful": 0, "honest": 1, "harmless": 1}
    assert result.dropped == 1
    shown = result.as_dict()
    assert shown["axes"]["harmless"] == {"mean": None, "interval": None, "n": 0, "failed": 1}
    assert shown["axes"]["helpful"]["n"] == 2
    json.dumps(shown, allow_nan=False)


def test_samples_of_one_prompt_are_one_observation() -> None:
    grader = Marks("helpful", lambda text: 1.0 if text.endswith("0") else 0.0)
    result = evaluate(THREE_H, Parrot(), fits, {"helpful": grader}, PROMPTS[:2], Sampling(max_tokens=8, num_samples=4))
    estimate = result.axes["helpful"].estimate
    assert estimate is not None
    assert (estimate.value, estimate.n) == (0.25, 2)
    assert len(result.graded) == 8


def test_rows_hold_what_the_report_shows(tmp_path: Path) -> None:
    result = evaluate(THREE_H, Parrot(), fits, graders(), PROMPTS, Sampling(max_tokens=8))
    result.write_rows(tmp_path / "evaluation" / "before.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "evaluation" / "before.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "id": "a", "axis": "helpful", "task": "count", "prompt": "good", "completion": "good 0",
        "finish_reason": "stop", "score": 1.0, "rationale": "because",
    }  # fmt: skip
    assert [(row["id"], row.get("error")) for row in rows if row["score"] is None] == [
        ("c", "judge timed out"), ("e", "judge timed out"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ([], "returned 0 grades for 1 rollouts"),
        ([Grade(axis="honest", score=1.0)], "returned a grade for 'honest', not for 'helpful'"),
        ([Grade(axis="helpful", score=1.5)], "score 1.5, outside 0..1"),
        ([Grade(axis="helpful", score=float("nan"))], "score nan, outside 0..1"),
    ],
)
def test_a_grader_that_returns_nonsense_is_named(grades: list[Grade], message: str) -> None:
    grader = Marks("helpful", float)
    grader.grade = lambda rollouts: grades  # type: ignore[method-assign]
    with pytest.raises(RewardError, match=f"'pocket_helpful' returned .*{message.removeprefix('returned ')}"):
        evaluate(THREE_H, Parrot(), fits, {"helpful": grader}, PROMPTS[:1], Sampling(max_tokens=8))


def test_an_answer_to_which_a_grader_does_not_apply_is_neither_scored_nor_failed() -> None:
    grader = Marks("helpful", float)
    grader.grade = lambda rollouts: [Grade(axis="helpful", score=None) for _ in rollouts]  # type: ignore[method-assign]
    result = evaluate(THREE_H, Parrot(), fits, {"helpful": grader}, PROMPTS[:1], Sampling(max_tokens=8))
    assert (result.axes["helpful"].estimate, result.axes["helpful"].failed) == (None, 0)


def test_a_prompt_without_an_axis_is_refused_before_anything_is_generated() -> None:
    class Untouched(Parrot):
        def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
            raise AssertionError("generated")

    with pytest.raises(DataError, match="prompt 'x' has axis None"):
        evaluate(THREE_H, Untouched(), fits, graders(), [Prompt(id="x", text="?")], Sampling(max_tokens=8))


def test_an_unknown_suite_gets_the_nearest_name() -> None:
    assert suite_named("3h") is SUITES["3h"]
    with pytest.raises(ConfigError, match=r"no suite is called '3H'\. Known: 3h"):
        suite_named("3H")


def test_graders_are_found_by_name() -> None:
    registry = Registry()
    for axis, name in THREE_H.graders.items():
        registry.add(
            Entry(
                kind="grader", name=name, config=None, owner="t",
                factory=lambda config, parts, axis=axis: Marks(axis, lambda text: parts),
            )
        )  # fmt: skip
    built = suite_graders(THREE_H, registry, 0.5)
    assert {axis: grader.axis for axis, grader in built.items()} == {a: a for a in ("helpful", "honest", "harmless")}
    assert built["honest"].grade([Rollout(prompt=PROMPTS[0], completion=Parrot().generate(
        PROMPTS[:1], Sampling(max_tokens=1))[0][0])])[0].score == 0.5  # fmt: skip


def test_every_held_out_prompt_comes_once() -> None:
    pocket = pytest.importorskip("rlhf.pocket.dataset")
    dataset = pocket.PocketDataset(pocket.PocketConfig())
    prompts = suite_prompts(THREE_H, dataset)
    assert len({p.id for p in prompts}) == len(prompts) == dataset.held_out().sizes["prompts"]
    assert {p.metadata["axis"] for p in prompts} == {"helpful", "honest", "harmless"}
    few = suite_prompts(THREE_H, dataset, limit=7)
    assert few == [prompt for prompt in prompts if prompt in few]
    assert sorted(Counter(prompt.metadata["axis"] for prompt in few).values()) == [2, 2, 3]
    assert suite_prompts(THREE_H, dataset, limit=len(prompts)) == prompts


def test_a_data_set_without_held_out_prompts_is_refused() -> None:
    class Empty:
        def __init__(self) -> None:
            self.sizes = {"rankings": 3}

        def held_out(self) -> Empty:
            return self

    with pytest.raises(DataError, match="holds out no prompts"):
        suite_prompts(THREE_H, Empty())  # type: ignore[arg-type]
