"""`boxed`: every gold solution of MATH, and the spellings LaTeX allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


def test_gold_solutions_of_math_are_right_and_those_of_other_problems_wrong(
    rows: Callable[..., Any], rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    reward = built("boxed", column="solution")
    gold = [row["solution"] for row in rows("math_test_minus_500")]
    assert {score.value for score in reward([rollout(text, solution=text) for text in gold])} == {1.0}
    others = reward([rollout(text, solution=other) for text, other in zip(gold, gold[1:] + gold[:1], strict=True)])
    assert sum(score.value for score in others) / len(gold) < 0.02  # two neighbours may well both be 2


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        ("1/2", r"\frac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        (".5", "0.5"),
        ("1,000", "1000"),
        ("1000.0", "1000"),
        (r"1{,}000", "1,000"),
        (r"\$12.50", "12.5"),
        (r"50\%", "50"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"(\text{A})", "(A)"),
        (r"12\text{ cm}^2", "12"),
        (r"12 \mathrm{~cm}", "12"),
        ("x = 5", "5"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left( 1,\,2 \right)", "(1,2)"),
        (r"-\frac{1}{2}", "-0.5"),
        ("−7", "-7"),
        ("7.", "7"),
        ("72", "She sold 72.\n#### 72"),
    ],
)
def test_spellings_of_one_answer(
    given: str, reference: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    (score,) = built("boxed")([rollout(rf"So \boxed{{{given}}}.", reference)])
    assert score.value == 1.0


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        ("1/3", r"\frac{1}{2}"),
        ("(2,1)", "(1,2)"),
        ("-5", "5"),
        ("12", "1,2"),
        ("", "0"),
        (" ", r"\text{ }0"),
        ("1 or 2", "1"),
        (r"\sqrt{5}", "5"),
        ("٧٢", "72"),
        ("9" * 5000, "1"),
        (r"\frac" * 1900, "1"),
        (r"\text{" * 300 + "}" * 300, "1"),
    ],
)
def test_other_answers_are_wrong_at_once(
    given: str, reference: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    began = time.process_time()
    (score,) = built("boxed")([rollout(rf"So \boxed{{{given}}}.", reference)])
    assert score.value == 0.0
    assert time.process_time() - began < 1


def test_a_box_is_worth_what_was_said_and_no_box_nothing(
    rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    texts = [r"\boxed{2}", r"\boxed{1}", "2", r"\boxed{2", r"<think>\boxed{2}"]
    scores = built("boxed", format_score=0.2)([rollout(text, "2") for text in texts])
    assert [score.value for score in scores] == [1.0, 0.2, 0.0, 0.0, 0.0]
    assert [score.parts["answered"] for score in scores] == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_a_reference_that_holds_nothing_is_an_error_of_its_row(
    rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    scores = built("boxed")([rollout(r"\boxed{2}", reference) for reference in ("", r"\boxed{2", "####", None)])
    assert [score.error is not None for score in scores] == [True, True, True, False]
    assert all(score.value is None for score in scores)
