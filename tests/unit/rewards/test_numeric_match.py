"""`numeric_match`: which numbers are read from a text, and which are near enough."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.rewards.numbers_in_text import numbers_in


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("3 apples and 4 pears", ".", ["3", "4"]),
        ("It is 42.", ".", ["42"]),
        ("-5, +5 and \u22125", ".", ["-5", "5", "-5"]),
        ("7-5 and (1)-5, x-5, 10%-5", ".", ["7", "5", "1", "5", "5", "10", "5"]),
        ("答案是-5", ".", ["-5"]),
        ("x^{-2}", ".", ["-2"]),
        ("$1,234,567.89", ".", ["1234567.89"]),
        ("1,2,3", ".", ["1", "2", "3"]),
        ("1,2345", ".", ["1", "2345"]),
        ("12,345,6789", ".", ["12345", "6789"]),
        ("1234,567", ".", ["1234", "567"]),
        ("12\u202f345 or 12\u00a0345", ".", ["12345", "12345"]),
        ("12 345", ".", ["12", "345"]),
        ("1.234,5", ",", ["1234.5"]),
        ("1.234,5", ".", ["1.234", "5"]),
        ("3,14", ",", ["3.14"]),
        (".5 and 0.5", ".", ["0.5", "0.5"]),
        ("6.02e23.", ".", ["6.02e23"]),
        ("5e12345, 1e5.5", ".", ["5", "12345", "1", "5.5"]),
        ("1e-3 2E+2 2e\u22123", ".", ["0.001", "200", "0.002"]),
        ("١٢٫ and １２", ".", ["12", "12"]),
        ("no number", ".", []),
        ("", ".", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, decimal: str, expected: list[str]) -> None:
    assert [number.value for number in numbers_in(text, decimal)] == [Fraction(number) for number in expected]


@pytest.mark.parametrize(
    ("said", "right", "options", "expected"),
    [
        ("so 3 + 4 = 7", "#### 7", {}, 1.0),
        ("7 = 3 + 4", "7", {}, 0.0),
        ("7 = 3 + 4", "7", {"take": "first"}, 1.0),
        ("1,234", "1234", {}, 1.0),
        ("9007199254740993", "9007199254740992", {}, 0.0),  # one float, two numbers
        ("0.1", "1e-1", {}, 1.0),
        ("3.14", "3.14159", {}, 0.0),
        ("3.14", "3.14159", {"abs_tolerance": 0.01}, 1.0),
        ("0.5", "0.2", {"abs_tolerance": 0.3}, 1.0),  # the float 0.3 is a little less
        ("101", "100", {"rel_tolerance": 0.01}, 1.0),
        ("101.01", "100", {"rel_tolerance": 0.01}, 0.0),
        ("99", "-100", {"rel_tolerance": 0.01}, 0.0),
        ("-99", "-100", {"rel_tolerance": 0.01}, 1.0),
        ("85%", "85", {}, 1.0),
        ("85 %", "0.85", {"percent": "divide"}, 1.0),
        ("0.85", "85%", {"percent": "divide"}, 1.0),
        ("no idea", "7", {}, 0.0),
        ("", "7", {}, 0.0),
        ("9" * 5000, "7", {}, 0.0),
        ("1e9999", "7", {}, 0.0),
    ],
)
def test_numbers_are_compared_as_the_options_say(
    build: Any, rollout: Any, value: Any, said: str, right: str, options: dict[str, Any], expected: float
) -> None:
    assert value(build("numeric_match", **options), rollout(said, right)) == expected


def test_another_column_may_hold_numbers_or_several(build: Any, rollout: Any, value: Any) -> None:
    reward = build("numeric_match", column="roots", decimal=",")
    assert reward.columns == ("roots",)
    roots = {"roots": [1.5, "2,5", -3]}
    assert [value(reward, rollout(text, None, roots)) for text in ("1,5", "2,5", "-3", "15")] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("right", "complaint"),
    [
        ({}, "row 'r7' has no 'n'"),
        ({"n": "seven"}, "row 'r7' has no number in 'n': 'seven'"),
        ({"n": float("nan")}, "row 'r7' has no number in 'n': 'nan'"),
        ({"n": "1e5000"}, "row 'r7' has no number in 'n': '1e5000'"),
    ],
)
def test_a_row_without_a_number_is_an_error(
    build: Any, rollout: Any, fault: Any, right: dict[str, Any], complaint: str
) -> None:
    assert fault(build("numeric_match", column="n"), rollout("7", None, right)) == complaint


@pytest.mark.parametrize("piece", ["1", "1,", "1,000,", "-", "1e", ".", "1.", "1 %", "１", "1\u202f000\u202f"])
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    text = piece * 50_000 + "x"
    start = time.process_time()
    for _ in numbers_in(text):
        pass
    assert time.process_time() - start < 5  # quadratic would be an hour


@given(number=st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_what_is_written_is_what_is_read(build: Any, rollout: Any, value: Any, number: Any) -> None:
    english, german = f"{number:,}", f"{number:,}".translate(str.maketrans(",.", ".,"))
    assert value(build("numeric_match"), rollout(f"It is {english}.", str(number))) == 1.0
    reward = build("numeric_match", column="n", decimal=",")
    assert value(reward, rollout(f"Es ist {german}.", None, {"n": german})) == 1.0


@given(text=st.text())
def test_no_text_breaks_it(build: Any, rollout: Any, value: Any, text: str) -> None:
    assert value(build("numeric_match"), rollout(text, "7")) in (0.0, 1.0)
