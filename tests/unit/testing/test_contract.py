"""The contract of rewards and graders: sound ones keep it, and each way of breaking it is caught by its own check."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf.rewards.building import AsksForModels
from rlhf.testing import check_grader, check_reward, contract, ordinary_rollouts, rollout
from rlhf.testing.building import function_judge
from rlhf.testing.checks import part_findings
from rlhf.testing.findings import Finding
from rlhf.testing.hostile_texts import GROUPS, HUGE
from rlhf.testing.verdicts import GraderJudge, RewardJudge
from rlhf.types import Axis, Grade, Rollout, Score

Texts = Sequence[str]


def findings_on(function: Callable[..., Any], rows: list[Rollout] | None = None) -> dict[str, Finding]:
    """By the check's name; `function` takes `completions`, or `rollouts`."""
    is_plain = "rollouts" not in function.__code__.co_varnames[:1]
    build = partial(function_judge, "it", function) if is_plain else partial(RewardJudge, function)
    return {finding.check: finding for finding in part_findings("reward it", build, rows)}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.outcome == "failed"}


def num_words(completions: Texts) -> list[float]:
    return [float(len(text.split())) for text in completions]


# --- what keeps it ---------------------------------------------------------------------------------------------------


def test_a_sound_reward_keeps_every_part_of_it() -> None:
    findings = findings_on(num_words)
    assert {finding.outcome for finding in findings.values()} == {"ok"}
    assert findings["answers"].cause == "2 to 15"
    assert {*GROUPS, "one by one", "any order", "any company", "repeatable", "nothing left running"} <= findings.keys()


def test_errors_and_none_are_answers() -> None:
    def careful(rollouts: Sequence[Rollout]) -> list[Score | None]:
        return [Score(value=1.0) if "a" in r.completion.text else Score(error="no a") for r in rollouts[:-1]] + [
            Score(value=1.0) if "a" in r.completion.text else None for r in rollouts[-1:]
        ]

    def by_row(rollouts: Sequence[Rollout]) -> list[Score | None]:
        return [Score(value=1.0) if "a" in r.completion.text else Score(error="no a") for r in rollouts]

    assert failed(findings_on(by_row)) == set()
    assert "one by one" in failed(findings_on(careful))  # None for the last of a batch, and an error elsewhere


def test_a_reward_that_says_nothing_is_not_called_sound() -> None:
    findings = findings_on(lambda completions: [None] * len(completions))
    assert findings["answers"].outcome == "skipped"
    assert "none of 10 rows got a number (the first: None)" in findings["answers"].cause


# --- each breach is caught by its own check --------------------------------------------------------------------------


class Counting:
    """Later rows are worth more."""

    def __init__(self) -> None:
        self.seen = 0.0

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        values = [self.seen + place for place in range(len(rollouts))]
        self.seen += len(rollouts)
        return values


def centred(completions: Texts) -> list[float]:
    lengths = num_words(completions)
    return [length - sum(lengths) / len(lengths) for length in lengths] if lengths else []


def against_the_mean(completions: Texts) -> list[float]:
    return [1.0 / len(completions) * len(completions) for _ in completions] + [0.0] * (0 // len(completions))


def per_word(completions: Texts) -> list[float]:
    return [1 / len(text.split()) for text in completions]


def ranked(completions: Texts) -> list[float]:
    return [float(place) for place in range(len(completions))]


def slow_on_huge(completions: Texts) -> list[float]:
    if any(len(text) >= HUGE - 10 for text in completions):
        time.sleep(0.3)
    return num_words(completions)


def scored_by_the_answer(completions: Texts) -> list[float]:
    return [float(text.partition('"score": ')[2][:2] or 0) for text in completions]


def last_wins(completions: Texts) -> list[float]:
    """An order to the judge in one answer changes the others."""
    return [10.0 if any("Ignore all previous" in text for text in completions) else 1.0 for _ in completions]


BREACHES: dict[str, tuple[Callable[..., Any], set[str], str]] = {
    "too few": (lambda completions: [1.0] * (len(completions) - 1), {"answers"}, "it returned 9 numbers for 10"),
    "one number": (lambda completions: 1.0, {"answers", "empty batch"}, "must return a list, given float"),
    "text": (lambda completions: ["1"] * len(completions), {"answers"}, "given '1' among them"),
    "nan": (lambda completions: [float("nan")] * len(completions), {"answers"}, "nan is not finite"),
    "infinite": (lambda completions: [float("inf")] * len(completions), {"answers"}, "inf is not finite"),
    "raises": (lambda completions: 1 / 0, {"answers", "huge text"}, "ZeroDivisionError: division by zero (test_contr"),
    "empty batch": (against_the_mean, {"empty batch"}, "ZeroDivisionError"),
    "empty text": (per_word, {"empty text"}, "for the text ''"),
    "recursion": (lambda completions: [deep(text) for text in completions], {"huge text"}, "RecursionError"),
    "digits": (lambda completions: [int_of(text) for text in completions], {"huge text"}, "Exceeds the limit"),
    "ascii": (lambda completions: [len(t.encode("ascii")) for t in completions], {"other languages"}, "UnicodeEncode"),
    "one line": (lambda completions: [one_line(text) for text in completions], {"odd characters"}, "ValueError"),
    "fooled": (scored_by_the_answer, {"adversarial text"}, "could not convert string to float"),
    "company": (last_wins, {"any company"}, "1 among its like, 10 among hostile rows"),
    "order": (ranked, {"any order", "one by one"}, "in one order"),
    "batch": (centred, {"one by one"}, "in a batch, 0 alone"),
}  # fmt: skip


def deep(text: str, place: int = 0) -> float:
    return 1.0 + deep(text, place + 1) if text[place : place + 1] == "(" else 0.0


def int_of(text: str) -> float:
    return float(int(text) % 7) if text.isdecimal() and text.isascii() else 0.0


def one_line(text: str) -> float:
    if "\x00" in text:
        raise ValueError("embedded null byte")
    return 1.0


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_caught_and_named(name: str) -> None:
    function, checks, cause = BREACHES[name]
    findings = findings_on(function)
    assert checks <= failed(findings)
    assert any(cause in findings[check].cause for check in checks), {c: findings[c].cause for c in checks}


def test_a_reward_with_a_memory_is_not_repeatable() -> None:
    findings = {f.check: f for f in part_findings("it", lambda: RewardJudge(Counting()))}
    assert {"one by one", "any order", "repeatable"} <= failed(findings)


def test_a_reward_that_differs_when_built_anew_is_not_repeatable() -> None:
    def build() -> RewardJudge:
        luck = random.Random(os.urandom(8)).random()
        return RewardJudge(lambda rollouts: [luck] * len(rollouts))

    findings = {f.check: f for f in part_findings("it", build)}
    assert failed(findings) == {"repeatable"}
    assert "when built anew" in findings["repeatable"].cause


def test_a_slow_row_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "SLOW_S", 0.2)
    assert failed(findings_on(slow_on_huge)) == {"huge text"}


def test_changed_rows_are_seen() -> None:
    def tidies(rollouts: Sequence[Rollout]) -> list[float]:
        for row in rollouts:
            row.prompt.metadata["seen"] = True  # type: ignore[index]
        return [1.0] * len(rollouts)

    findings = findings_on(tidies)
    assert "it changed the row's metadata" in findings["rows untouched"].cause


# --- the process it shares -------------------------------------------------------------------------------------------


def sets_environment(completions: Texts) -> list[float]:
    os.environ["RLHF_TEST_SECRET"] = "value"
    return num_words(completions)


def changes_folder(completions: Texts) -> list[float]:
    os.chdir("/")
    return num_words(completions)


def draws(completions: Texts) -> list[float]:
    random.random()
    return num_words(completions)


def draws_from_numpy(completions: Texts) -> list[float]:
    np.random.rand()  # noqa: NPY002 - the shared generator is what is tested
    return num_words(completions)


def seeds_torch(completions: Texts) -> list[float]:
    torch.manual_seed(7)
    return num_words(completions)


def prints(completions: Texts) -> list[float]:
    print("a score")
    return num_words(completions)


def prints_past_python(completions: Texts) -> list[float]:
    os.write(1, b"past it")
    return num_words(completions)


@pytest.mark.parametrize(
    ("function", "check", "cause"),
    [
        (sets_environment, "process settings", "it changed the environment: RLHF_TEST_SECRET"),
        (changes_folder, "process settings", "it changed the working folder"),
        (draws, "random numbers", "Python's `random`"),
        (draws_from_numpy, "random numbers", "numpy's `random`"),
        (seeds_torch, "random numbers", "torch's generator"),
        (prints, "standard output", "'a score a score"),
        (prints_past_python, "standard output", "past it"),
    ],
)
def test_what_it_does_to_the_process_is_seen(
    function: Callable[..., Any], check: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_TEST_SECRET", "")
    monkeypatch.chdir(Path.cwd())
    findings = findings_on(function)
    assert failed(findings) == {check}
    assert cause in findings[check].cause


def test_threads_that_stay_are_seen_and_a_pool_is_none() -> None:
    from concurrent.futures import ThreadPoolExecutor

    stop = threading.Event()

    def leaks(completions: Texts) -> list[float]:
        threading.Thread(target=stop.wait, daemon=True).start()
        return num_words(completions)

    with ThreadPoolExecutor(2) as pool:
        findings = findings_on(lambda completions: list(pool.map(lambda text: float(len(text)), completions)))
        assert failed(findings) == set()
    try:
        assert "6 threads more" in findings_on(leaks)["nothing left running"].cause
    finally:
        stop.set()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="child processes are counted through /proc")
def test_processes_that_stay_are_seen() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def leaks(completions: Texts) -> list[float]:
        started.append(subprocess.Popen(["sleep", "60"]))
        return num_words(completions)

    try:
        assert "6 processes more" in findings_on(leaks)["nothing left running"].cause
    finally:
        for process in started:
            process.kill()
            process.wait()


# --- columns and rows ------------------------------------------------------------------------------------------------


def by_level(completions: Texts, level: list[int]) -> list[float]:
    return [float(number) for number in level]


def test_a_column_nobody_gave_is_a_reason_to_skip() -> None:
    findings = findings_on(by_level)
    assert findings["judging"].outcome == "skipped"
    assert "needs the data's 'level': give rows with these columns with --data" in findings["judging"].cause
    assert set(findings) == {"builds", "judging"}


def test_rows_with_the_column_are_used_for_hostile_texts_too() -> None:
    rows = [rollout("Why?", text, level=number) for number, text in enumerate("abc")]
    findings = findings_on(by_level, rows)
    assert {name for name, finding in findings.items() if finding.outcome != "ok"} == {"empty batch"}
    assert findings["answers"].cause == "0 to 2"


def test_a_reward_that_needs_the_stages_model_is_skipped() -> None:
    def asks(rollouts: Sequence[Rollout]) -> list[float]:
        raise AsksForModels("it asks for the stage's reward model, which only a run has")

    findings = findings_on(asks)
    assert failed(findings) == set()
    assert findings["answers"].outcome == "skipped"


# --- graders ---------------------------------------------------------------------------------------------------------


class Echo:
    """A grader that gives what it is told."""

    def __init__(self, grade: Grade, axis: Axis = "helpful") -> None:
        self.axis = axis
        self._grade = grade

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        return [self._grade] * len(rollouts)


def test_a_sound_grader_keeps_it() -> None:
    check_grader(Echo(Grade(axis="helpful", score=0.5)))


@pytest.mark.parametrize(
    ("grade", "cause"),
    [
        (Grade(axis="helpful", score=1.5), r"score 1\.5, outside 0\.\.1"),
        (Grade(axis="honest", score=0.5), "a grade for 'honest', and its axis is 'helpful'"),
        (Grade(axis="helpful", score=float("nan")), "nan is not finite"),
        (0.5, r"0\.5 is no Grade"),
    ],
)
def test_a_wrong_grade_is_a_breach(grade: Any, cause: str) -> None:
    with pytest.raises(AssertionError, match=cause):
        check_grader(Echo(grade))


def test_an_axis_there_is_not_is_a_breach() -> None:
    with pytest.raises(AssertionError, match="its `axis` must be one of helpful, honest, harmless, given 'kind'"):
        check_grader(Echo(Grade(axis="helpful", score=1.0), axis="kind"))  # type: ignore[arg-type]


def test_a_grader_is_shown_rows_of_its_own_axis() -> None:
    class Strict(Echo):
        def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
            assert all(r.prompt.metadata.get("axis", "helpful") == "helpful" for r in rollouts)
            return super().grade(rollouts)

    grader = Strict(Grade(axis="helpful", score=1.0))
    rows = [rollout("Why?", "So.", axis="helpful"), rollout("Why?", "So.", axis="honest")]
    check_grader(grader, rows)
    (judging,) = [f for f in part_findings("it", partial(GraderJudge, grader), rows[1:]) if f.check == "judging"]
    assert "no row of the data is for the axis 'helpful'" in judging.cause


# --- from Python -----------------------------------------------------------------------------------------------------


def test_check_reward_lists_all_that_is_broken() -> None:
    check_reward(num_words)
    with pytest.raises(AssertionError) as caught:
        check_reward(ranked)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the contract is broken")
    assert any(line.startswith("  reward ranked, any order: ") for line in lines)


def test_rollouts_are_as_a_run_shows_them() -> None:
    row = rollout("Why?", "Because it is.", reference="So.", level=3)
    assert row.prompt.last_user_text == "Why?"
    assert row.prompt.reference == "So."
    assert row.prompt.metadata == {"level": 3}
    assert len(row.completion.token_ids) == len(row.completion.logprobs) == 3
    assert {r.prompt.messages is None for r in ordinary_rollouts()} == {True, False}


def test_a_function_of_turns_is_checked_with_conversations() -> None:
    def of_turns(completions: list[list[dict[str, str]]], **kwargs: object) -> list[float]:
        return [float(len(turns[0]["content"])) for turns in completions]

    check_reward(of_turns)
