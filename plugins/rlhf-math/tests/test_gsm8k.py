"""`gsm8k`: its own data, the ways numbers are written, and texts made to break a reader of numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest


def value_of(reward: Any, row: Any) -> Any:
    (score,) = reward([row])
    return score.error or score.value


def test_gold_answers_are_right_and_shifted_ones_wrong(
    rows: Callable[..., Any], rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    answers = [row["answer"] for row in rows("gsm8k_train")]
    shifted = [re.sub(r"#### (.*)", lambda gold: f"#### {int(gold[1].replace(',', '')) + 1}", text) for text in answers]
    for strict in (False, True):
        reward = built("gsm8k", strict=strict, column="answer")
        assert {score.value for score in reward([rollout(text, answer=text) for text in answers])} == {1.0}
        wrong = [rollout(text, answer=gold) for text, gold in zip(shifted, answers, strict=True)]
        assert {score.value for score in reward(wrong)} == {0.0}


def test_bare_numbers_of_svamp(
    rows: Callable[..., Any], rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    reward = built("gsm8k", column="Answer")
    gold = rows("svamp")
    right = reward([rollout(f"That makes {row['Answer']} in all.", Answer=row["Answer"]) for row in gold])
    wrong = reward([rollout(f"That makes {row['Answer'] + 1} in all.", Answer=row["Answer"]) for row in gold])
    assert {score.value for score in right} == {1.0}
    assert {score.value for score in wrong} == {0.0}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("#### 1,080", "1080"),
        ("#### $1,234.50", "1234.5"),
        (r"#### \$18", "18"),
        ("#### 72 apples", "72"),
        ("#### 50%", "50"),
        ("#### -5", "-5"),
        ("#### −5", "-5"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### **72**", "72"),
        ("####72.", "72"),
        ("#### .5", "0.5"),
        ("#### 3/4", "0.75"),
        ("#### 1,00,000", "100000"),
        ("#### 72\n\nQuestion: what is 2 + 2?", "72"),
        ("#### Step 1\nThree times 24.\n#### 72", "72"),
        ("#### Step 1: three times 24 is 72", "72"),
        ("So 10-3=7", "7"),
        ("- 72", "72"),
        ("She needs 12 H2O bottles", "12"),
        ("In total 1, 2 and 3, so 72!", "72"),
        ("答案是72。", "72"),
        ("<think>#### 71</think>It is 72", "72"),
        ("#### 72", "Natalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72"),
        ("72", "72.0"),
    ],
)
def test_ways_to_write_the_right_number(
    text: str, reference: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    assert value_of(built("gsm8k"), rollout(text, reference)) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seventy-two",
        "#### 71",
        "#### 72 \n#### 71",
        "#### 71 or 72",
        "It is 72. No: 73",
        "#### 1,72",
        "#### ٧٢",  # digits, but not ours: int() and float() would take them
        "７２",
        "#### 72e5",
        "72E+1",
        "#### 72/0",
        "#### " + "9" * 100_000,
        "1" + ",234" * 50_000 + "x",
        "9" * 100_000 + "/" + "9" * 100_000,
        "- $" * 50_000,
        "#### " * 50_000,
        "x72",
        "<think>72",
    ],
)
def test_wrong_and_hostile_texts_are_wrong_at_once(
    text: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    began = time.process_time()
    assert value_of(built("gsm8k"), rollout(text, "72")) == 0.0
    assert time.process_time() - began < 1


def test_strict_wants_the_mark_and_a_format_is_worth_what_was_said(
    rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    strict, partial = built("gsm8k", strict=True), built("gsm8k", format_score=0.1)
    assert [score.value for score in strict([rollout("It is 72", "72"), rollout("#### 72", "72")])] == [0.0, 1.0]
    found = partial([rollout("It is 71", "72"), rollout("#### 71", "72"), rollout("#### 72", "72"), rollout("", "72")])
    assert [score.value for score in found] == [0.0, 0.1, 1.0, 0.0]
    assert [score.parts for score in found] == [
        {"answered": 1.0, "marked": 0.0},
        {"answered": 1.0, "marked": 1.0},
        {"answered": 1.0, "marked": 1.0},
        {"answered": 0.0, "marked": 0.0},
    ]


@pytest.mark.parametrize("reference", ["", "seventy", "between 1 and 2", "#### x", "1/0", "9" * 100])
def test_a_reference_without_one_number_is_an_error_of_its_row(
    reference: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    bad, good, without = built("gsm8k")([rollout("72", reference), rollout("72", "72"), rollout("72")])
    assert bad.value is None
    assert "the reference must hold one number" in bad.error
    assert (good.value, without.value, without.error) == (1.0, None, None)


@pytest.mark.parametrize("reference", [[72], {"a": 1}, True, float("nan"), float("inf")])
def test_a_reference_of_another_type_is_an_error_of_its_row(
    reference: Any, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    (score,) = built("gsm8k", column="gold")([rollout("72", gold=reference)])
    assert score.error.startswith("column 'gold' must hold a text or a number")
