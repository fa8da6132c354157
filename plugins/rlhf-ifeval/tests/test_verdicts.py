"""The loose verdict takes eight readings of a response, the strict one the response as it is."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_ifeval.kinds import read_instructions
from rlhf_ifeval.verdicts import judge

QUOTATION = ("startend:quotation", {})
JSON = ("detectable_format:json_format", {})
NO_COMMA = ("punctuation:no_comma", {})
ENDS_WITH_BYE = ("startend:end_checker", {"end_phrase": "bye."})


def verdicts(response: str, *rows: tuple[str, dict[str, Any]]) -> tuple[list[bool], list[bool]]:
    instructions = read_instructions([name for name, _ in rows], [kwargs for _, kwargs in rows])
    return judge(instructions, response, "strict"), judge(instructions, response, "loose")


@pytest.mark.parametrize(
    ("response", "row"),
    [
        ("Sure, here it is:\nno such mark here", NO_COMMA),
        ("no such mark here\nI hope that, too, helps", NO_COMMA),
        ("Sure, here:\nno such mark\nHope, it helps", NO_COMMA),
        ("And now bye.**", ENDS_WITH_BYE),
        ('Sure:\n**"All of it"**', QUOTATION),
        ('*"All of it"*\nDone!', QUOTATION),
        ('Sure:\n\n{"a": 1}\n\nDone.', JSON),
    ],
)
def test_loose_sees_past_an_introduction_an_outro_and_stars(response: str, row: tuple[str, dict[str, Any]]) -> None:
    assert verdicts(response, row) == ([False], [True])


@pytest.mark.parametrize("response", ["a, b", "a, b\nc, d\ne, f", "one, line\n\n\ntwo, lines\n\n\nthree"])
def test_loose_does_not_see_past_the_body(response: str) -> None:
    assert verdicts(response, NO_COMMA) == ([False], [False])


def test_a_reading_with_nothing_left_follows_nothing() -> None:
    assert verdicts("one, line", NO_COMMA) == ([False], [False])
    assert verdicts("a, b\n \nc, d", NO_COMMA) == ([False], [False])


def test_each_instruction_may_be_followed_by_another_reading() -> None:
    response = "Sure, here:\nno such mark here"
    starts = ("combination:repeat_prompt", {"prompt_to_repeat": "Sure, here:"})
    assert verdicts(response, NO_COMMA, starts) == ([False, True], [True, True])


def test_what_is_strictly_followed_is_loosely_followed() -> None:
    response = "* a\n* b"
    bullets = ("detectable_format:number_bullet_lists", {"num_bullets": 2})
    assert verdicts(response, bullets) == ([True], [True])


def test_verdicts_stand_in_the_order_of_the_instructions() -> None:
    strict, _ = verdicts('"fine bye."', QUOTATION, JSON, NO_COMMA, ENDS_WITH_BYE)
    assert strict == [True, True, True, True]
    strict, _ = verdicts("fine, bye.", QUOTATION, JSON, NO_COMMA, ENDS_WITH_BYE)
    assert strict == [False, False, False, True]
