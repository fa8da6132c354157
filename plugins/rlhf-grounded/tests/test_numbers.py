"""Numbers, however they are written."""

from __future__ import annotations

import pytest

from rlhf_grounded.claims import Claim
from rlhf_grounded.verdict import judge
from rlhf_grounded.words import words_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,000 and 2.5", [1000, 2.5]),
        ("twenty-one birds", [21]),
        ("three million people, 1.5 billion stars", [3e6, 1.5e9]),
        ("the 26th day, the fifth hour", [26, 5]),
        ("50% of it", [50]),
        ("the 1960s", [1960]),
        ("one of them", []),
        ("No. 7", [7]),
        ("twice", [2]),
    ],
)
def test_values(text: str, values: list[float]) -> None:
    assert [word.value for word in words_of(text) if word.value is not None] == values


@pytest.mark.parametrize(
    ("claimed", "found", "supported"),
    [
        ("400", "four hundred", True),
        ("400", "401", False),
        ("more than 400", "450", True),
        ("more than 400", "350", False),
        ("at most 400", "350", True),
        ("about 400", "410", True),
        ("about 400", "600", False),
        ("400", "about 410", True),
        ("3 million", "3,000,000", True),
    ],
)
def test_numbers_must_agree(claimed: str, found: str, supported: bool) -> None:
    verdict = judge(Claim(f"The zoo has {claimed} animals."), f"The zoo has {found} animals.")
    assert (verdict.finding == "supported") is supported
    assert verdict.finding == "supported" or verdict.finding == "contradicted"


def test_no_1_is_not_a_denial() -> None:
    assert judge(Claim("Chris was a No. 1 player."), "Chris was a No. 1 player from Texas.").finding == "supported"
