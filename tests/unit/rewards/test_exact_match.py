"""`exact_match`: which texts are the same, and which rows have nothing to compare with."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("said", "right", "options", "expected"),
    [
        ("Paris", "Paris", {}, 1.0),
        ("Paris.", "Paris", {}, 0.0),
        ("paris", "Paris", {}, 0.0),
        ("paris", "Paris", {"ignore_case": True}, 1.0),
        ("STRASSE", "straße", {"ignore_case": True}, 1.0),
        ("  New \n York ", "New York", {}, 1.0),
        (" New York", "New York", {"ignore_spaces": False}, 0.0),
        ("NewYork", "New York", {}, 0.0),
        ("«Paris!»", "Paris", {"ignore_punctuation": True}, 1.0),
        ("巴黎。", "巴黎", {"ignore_punctuation": True}, 1.0),
        ("5+3", "53", {"ignore_punctuation": True}, 0.0),  # a plus is no punctuation
        ("", "Paris", {}, 0.0),
        ("cafe\u0301", "caf\u00e9", {}, 1.0),  # one accent, coded in two ways
    ],
)
def test_texts_are_compared_as_the_options_say(
    build: Any, rollout: Any, value: Any, said: str, right: str, options: dict[str, Any], expected: float
) -> None:
    assert value(build("exact_match", **options), rollout(said, right)) == expected


def test_any_of_several_answers_in_another_column_is_right(build: Any, rollout: Any, value: Any) -> None:
    reward = build("exact_match", column="answers")
    assert reward.columns == ("answers",)
    answers = {"answers": ["UK", "United Kingdom", 44]}
    assert [value(reward, rollout(text, "x", answers)) for text in ("UK", "United Kingdom", "44", "x")] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ({}, "row 'r7' has no 'answers'"),
        ({"answers": None}, "row 'r7' has no 'answers'"),
        ({"answers": []}, "row 'r7' has an empty list in 'answers'"),
        ({"answers": ["a", ""]}, "row 'r7' has an empty text in 'answers'"),
        ({"answers": {"a": 1}}, "row 'r7' has a dict in 'answers'; it takes text, a number or a list of them"),
        ({"answers": True}, "row 'r7' has a bool in 'answers'; it takes text, a number or a list of them"),
        ({"answers": "?!"}, "row 'r7' has nothing but punctuation in 'answers'"),
    ],
)
def test_a_row_without_an_answer_is_an_error_and_no_zero(
    build: Any, rollout: Any, fault: Any, answers: dict[str, Any], complaint: str
) -> None:
    reward = build("exact_match", column="answers", ignore_punctuation=True)
    assert fault(reward, rollout("", None, answers)) == complaint


@given(text=st.text().filter(str.strip))
def test_a_text_is_itself_in_every_normal_form(build: Any, rollout: Any, value: Any, text: str) -> None:
    reward = build("exact_match", ignore_case=True)
    assert value(reward, rollout(unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text))) == 1.0
