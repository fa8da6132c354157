"""What a completion asserts, and what it does not."""

from __future__ import annotations

import pytest

from rlhf_grounded.claims import claims_of


def texts(completion: str, question: str = "", **options: bool) -> list[str]:
    return [claim.text for claim in claims_of(completion, question, **options)]


@pytest.mark.parametrize(
    ("completion", "claims"),
    [
        ("Ada was born in London. She wrote a program.", ["Ada was born in London.", "She wrote a program."]),
        ("Ada was born in London, but she died in Paris.", ["Ada was born in London", "she died in Paris."]),
        ("Ada was born in London; Bob came from Paris.", ["Ada was born in London", "Bob came from Paris."]),
        ("Ada liked cats, dogs, and birds.", ["Ada liked cats, dogs, and birds."]),
        ("Dr. J. R. Smith of the U.S. Army met Ada.", ["Dr. J. R. Smith of the U.S. Army met Ada."]),
        ("Congress met. He died.", ["Congress met.", "He died."]),
        ("It weighs 1.5 kg. It is red.", ["It weighs 1.5 kg.", "It is red."]),
        ("- Ada was a countess\n- **Bob** was a king", ["Ada was a countess", "Bob was a king"]),
        ("Yes, Ada was a countess.", ["Ada was a countess."]),
        ("According to the passage, Ada was a countess.", ["Ada was a countess."]),
        ("Ada was a countess. ADA was a  countess.", ["Ada was a countess."]),
        ("Run this:\n```\nAda was a king.\n```\nIt prints a line.", ["It prints a line."]),
    ],
)
def test_sentences_and_clauses_that_assert_are_claims(completion: str, claims: list[str]) -> None:
    assert texts(completion) == claims


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "   \n",
        "?!",
        "Where was Ada born?",
        "I'm sorry, I cannot help with that.",
        "I don't know who she was.",
        "The document does not say where she was born.",
        "Her birthplace is not mentioned.",
        "As an AI language model, I have no opinions.",
        "Hello! Thanks for asking.",
        "Sure, here is the answer:",
        "I hope this helps. Let me know if there is anything else.",
        "She might be a countess.",
        "I think she was a countess.",
        "Perhaps she came from London.",
        "She may have been a countess.",
        "```\nx = 1\n```",
    ],
)
def test_talk_refusals_questions_and_hedges_are_none(completion: str) -> None:
    assert texts(completion, "Who was Ada?") == []


def test_hedges_are_claims_where_asked_for() -> None:
    assert texts("Perhaps she came from London.", hedged=True) == ["Perhaps she came from London."]
    assert texts("I'm sorry, I cannot say.", hedged=True) == []


def test_a_month_is_no_hedge() -> None:
    assert texts("Ada was born in May 1815.") == ["Ada was born in May 1815."]
    assert texts("May was a cold month that year.") == ["May was a cold month that year."]


def test_a_phrase_is_read_as_the_answer_to_its_question() -> None:
    (claim,) = claims_of("In London.", "Where was Ada born?")
    assert (claim.text, claim.fragment) == ("In London", True)
    assert claim.wanted == "Where was Ada born? In London"


def test_a_phrase_without_a_subject_is_an_answer_too() -> None:
    (claim,) = claims_of("was born in London", "And Ada?")
    assert claim.fragment


def test_a_phrase_without_a_question_claims_nothing() -> None:
    assert texts("London.") == []


def test_yes_and_no_speak_of_the_question() -> None:
    (yes,) = claims_of("Yes.", "Was Ada born in London?")
    (no,) = claims_of("No", "Was Ada born in London?")
    assert (yes.text, yes.denies, no.denies) == ("Was Ada born in London", False, True)
