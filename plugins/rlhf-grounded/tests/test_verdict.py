"""Supported, contradicted or not found."""

from __future__ import annotations

import pytest

from rlhf_grounded.claims import Claim
from rlhf_grounded.verdict import judge

ADA = (
    "Ada Lovelace (born 10 December 1815 in London) was an English mathematician. She met Charles Babbage in 1833. "
    "The Analytical Engine was never completed. Her husband, William King, owned more than 400 horses."
)


@pytest.mark.parametrize(
    "claim",
    [
        "Ada Lovelace was born in London.",
        "Lovelace was born on December 10, 1815.",
        "Ada Lovelace was a mathematician from London.",
        "She met Babbage in 1833.",
        "Ada Lovelace met Charles Babbage.",
        "The Analytical Engine was not completed.",
        "William King owned over 300 horses.",
    ],
)
def test_supported(claim: str) -> None:
    assert judge(Claim(claim), ADA).finding == "supported"


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("Ada Lovelace was not born in London.", "affirms"),
        ("The Analytical Engine was completed.", "denies"),
        ("Ada Lovelace was born in 1820 in London.", "in place of"),
        ("Ada Lovelace was a French mathematician.", "'english', not 'french'"),
        ("Ada Lovelace was born in November 1815 in London.", "'december', not 'november'"),
        ("She met Charles Dickens in 1833.", "in place of"),
    ],
)
def test_contradicted_and_why(claim: str, why: str) -> None:
    verdict = judge(Claim(claim), ADA)
    assert verdict.finding == "contradicted", verdict
    assert why in verdict.reason


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("Ada Lovelace played the violin.", "'violin'"),
        ("Isambard Brunel was born in London.", "does not speak of isambard brunel"),
        ("William King owned 900 horses in Kenya.", "'kenya'"),
        ("Babbage was born in London.", "lacks"),
    ],
)
def test_not_found_and_why(claim: str, why: str) -> None:
    verdict = judge(Claim(claim), ADA)
    assert verdict.finding == "not found", verdict
    assert why in verdict.reason


def test_what_is_said_of_one_is_not_said_of_another() -> None:
    passage = "Memphis Airport is an airport in Tennessee. Albany Airport is a small airport in Georgia."
    assert judge(Claim("Memphis Airport is in Tennessee."), passage).finding == "supported"
    assert judge(Claim("Albany Airport is in Tennessee."), passage).finding != "supported"


def test_another_first_name_is_another_person() -> None:
    elizabeth, john = (Claim(f"The statue was made by {name} Smith.") for name in ("Elizabeth", "John"))
    assert judge(elizabeth, "The statue was made by John Smith.").finding != "supported"
    assert judge(john, "The statue was made by John Smith.").finding == "supported"
    assert judge(john, "The statue was made by Smith.").finding == "supported"
    assert judge(elizabeth, "The statue was made by John Smith, and Smith was paid.").finding != "supported"


def test_a_denied_claim_is_not_contradicted_by_an_opposite() -> None:
    assert judge(Claim("Ada Lovelace was not French."), ADA).finding != "contradicted"


def test_an_answer_must_hold_what_it_adds_to_its_question() -> None:
    question = "What track does the old Southern Railway from Vienna to Graz run on?"
    text = "The old Southern Railway from Vienna to Graz runs on a {} track."
    right, wrong = text.format("wide"), text.format("light")
    passage = right
    assert judge(Claim(right, question), passage).finding == "supported"
    assert judge(Claim(wrong, question), passage).finding != "supported"


def test_short_answers() -> None:
    question = "Where was Ada Lovelace born?"
    assert judge(Claim("London", question, fragment=True), ADA).finding == "supported"
    assert judge(Claim("Paris", question, fragment=True), ADA).finding == "not found"
    assert judge(Claim("Was Ada Lovelace born in London"), ADA).finding == "supported"
    assert judge(Claim("Was Ada Lovelace born in London", denies=True), ADA).finding == "contradicted"


def test_a_short_answer_is_looked_for_where_its_question_is_spoken_of() -> None:
    passage = "The lamp is red. The door is shut."
    assert judge(Claim("shut", "How is the door?", fragment=True), passage).finding == "supported"
    assert judge(Claim("shut", "How is the lamp?", fragment=True), passage).finding == "not found"


@pytest.mark.parametrize("passage", ["", "...", "\ud800", "北京是中国的首都。", "a" * 10_000, "1" * 500])
def test_odd_passages_support_nothing(passage: str) -> None:
    assert judge(Claim("Ada Lovelace was born in London."), passage).finding == "not found"


def test_chinese_by_characters() -> None:
    passage = "北京是中国的首都。"
    assert judge(Claim("北京是中国的首都"), passage).finding == "supported"
    assert judge(Claim("北京不是中国的首都"), passage).finding == "contradicted"
