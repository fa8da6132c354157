"""A row that cannot be read is refused with one line that names what is wrong in it."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.errors import DataError
from rlhf_ifeval.kinds import KINDS, read_instructions


@pytest.mark.parametrize(
    ("identifier", "kwargs", "words"),
    [
        ("keywords:existance", {}, ["'keywords:existance'", "25 kinds", "Did you mean 'keywords:existence'?"]),
        ("ja:punctuation:no_comma", {}, ["'ja:punctuation:no_comma'"]),
        (7, {}, ["'7'"]),
        ("length_constraints:number_words", {"num_words": 3}, ["number_words", "'relation' is missing"]),
        (
            "length_constraints:number_words",
            {"num_word": 3, "relation": "at least"},
            ["unknown key 'num_word'", "Did you mean 'num_words'?"],
        ),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "at most"},
            ["relation='at most'", "'less than' or 'at least'"],
        ),
        ("length_constraints:number_words", {"num_words": "many", "relation": "at least"}, ["num_words='many'"]),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, ["num_words=-1"]),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2.5}, ["num_paragraphs=2.5"]),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"},
            ["nth_paragraph=3 is beyond num_paragraphs=2"],
        ),
        ("language:response_language", {"language": "klingon"}, ["language='klingon'", "no language of that code"]),
        ("keywords:existence", {"keywords": []}, ["keywords=[]"]),
        ("keywords:existence", {"keywords": "war"}, ["keywords='war'"]),
        ("keywords:forbidden_words", {"forbidden_words": ["a", " "]}, ["forbidden_words.1=' '"]),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": "at least"},
            ["letter='ab'"],
        ),
        ("combination:repeat_prompt", {"prompt_to_repeat": None}, ["'prompt_to_repeat' is missing"]),
        ("punctuation:no_comma", {"relation": "at least"}, ["unknown key 'relation'", "Known: none"]),
        ("punctuation:no_comma", [], ["'punctuation:no_comma'", "must be a mapping"]),
    ],
)
def test_an_instruction_is_refused_by_name(identifier: Any, kwargs: Any, words: list[str]) -> None:
    with pytest.raises(DataError) as refusal:
        read_instructions([identifier], [kwargs])
    message = str(refusal.value)
    assert "\n" not in message
    assert str(identifier) in message
    for part in words:
        assert part in message


@pytest.mark.parametrize(
    ("ids", "kwargs", "words"),
    [
        ("punctuation:no_comma", [{}], "instruction_id_list must be a list"),
        (["punctuation:no_comma"], None, "kwargs must be a list"),
        (["punctuation:no_comma"], '[{"a": 1}]', "kwargs must be a list"),
        (["punctuation:no_comma"], [], "kwargs has 0 entries for 1 instruction ids"),
    ],
)
def test_columns_of_a_wrong_shape_are_refused(ids: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("[", r"\[")):
        read_instructions(ids, kwargs)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(DataError) as refusal:
        read_instructions(["keywords:letter_frequency"], [{"letter": "x" * 10_000}])
    assert len(str(refusal.value)) < 300


def test_keys_that_are_none_count_as_absent() -> None:
    """So does a table with one column a key (the data on the Hugging Face Hub) fill up what a kind does not have."""
    every_key = dict.fromkeys(key for kind in KINDS.values() for key in kind.model_fields)
    (no_comma, words) = read_instructions(
        ["punctuation:no_comma", "length_constraints:number_words"],
        [every_key, {**every_key, "num_words": 3, "relation": "at least"}],
    )
    assert str(no_comma) == "punctuation:no_comma"
    assert str(words) == "length_constraints:number_words (num_words=3, relation='at least')"


def test_no_mapping_at_all_is_no_keys() -> None:
    (instruction,) = read_instructions(["punctuation:no_comma"], [None])
    assert str(instruction) == "punctuation:no_comma"


def test_ids_of_the_multilingual_edition_are_known() -> None:
    (instruction,) = read_instructions(["en:punctuation:no_comma"], [{}])
    assert type(instruction) is KINDS["punctuation:no_comma"]


def test_a_whole_number_may_come_as_a_float() -> None:
    (instruction,) = read_instructions(["length_constraints:number_paragraphs"], [{"num_paragraphs": 3.0}])
    assert instruction.followed("a***b***c")


def test_ids_are_those_of_the_paper() -> None:
    groups = (
        "keywords language length_constraints detectable_content detectable_format combination change_case startend"
    )
    assert {identifier.split(":")[0] for identifier in KINDS} == {*groups.split(), "punctuation"}
