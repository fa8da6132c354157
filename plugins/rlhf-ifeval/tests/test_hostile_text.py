"""A response of a megabyte, made to be slow, is judged at once: every check takes time linear in the text."""

from __future__ import annotations

import time

import pytest

from rlhf_ifeval.instruction import Instruction
from rlhf_ifeval.kinds import KINDS, read_instructions
from rlhf_ifeval.language import detected

MEGABYTE = 1_000_000
LIMIT_S = 2.0
"""Of processor time: four times what the slowest takes; one of quadratic time takes hours."""
KWARGS: dict[str, dict[str, object]] = {
    "keywords:existence": {"keywords": ["aaab"]},
    "keywords:frequency": {"keyword": "aaab", "frequency": 1, "relation": "at least"},
    "keywords:forbidden_words": {"forbidden_words": ["aaab"]},
    "keywords:letter_frequency": {"letter": "a", "let_frequency": 1, "let_relation": "less than"},
    "language:response_language": {"language": "de"},
    "length_constraints:number_sentences": {"num_sentences": 3, "relation": "at least"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 3},
    "length_constraints:number_words": {"num_words": 3, "relation": "at least"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "a"},
    "detectable_content:number_placeholders": {"num_placeholders": 3},
    "detectable_content:postscript": {"postscript_marker": "P.P.S"},
    "detectable_format:number_bullet_lists": {"num_bullets": 3},
    "detectable_format:number_highlighted_sections": {"num_highlights": 3},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 3},
    "combination:repeat_prompt": {"prompt_to_repeat": "a" * 1000},
    "startend:end_checker": {"end_phrase": "zz"},
    "change_case:capital_word_frequency": {"capital_frequency": 3, "capital_relation": "less than"},
}
UNITS = [
    "a",
    "1. ",
    "P. ",
    "[",
    "<<",
    "*",
    "* ",
    "{",
    '"',
    "'",
    "a@",
    "p.p.",
    "Section ",
    "中文。",
    "İ",
    "\n",
    "<<a\n",
    "Words, words. ",
]


@pytest.fixture(scope="module", autouse=True)
def _profiles_are_loaded() -> None:
    detected("once in a process, half a second")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.id)
def test_a_megabyte_of_anything_is_judged_at_once(kind: type[Instruction]) -> None:
    (instruction,) = read_instructions([kind.id], [KWARGS.get(kind.id, {})])
    for unit in UNITS:
        text = (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
        begun = time.process_time()
        assert instruction.followed(text) in (True, False)
        assert time.process_time() - begun < LIMIT_S, repr(unit)


def test_deep_brackets_are_no_json_and_no_crash() -> None:
    (instruction,) = read_instructions(["detectable_format:json_format"], [{}])
    for text in ("[" * MEGABYTE, '{"a":' * MEGABYTE, "[" * MEGABYTE + "]" * MEGABYTE, "1" * MEGABYTE):
        assert not instruction.followed(text)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\u202eb", "e\u0301" * 1000, "\ufeff{}", "👩‍👩‍👧‍👦"])
def test_odd_characters_are_judged_like_any_other(text: str) -> None:
    for kind in KINDS.values():
        (instruction,) = read_instructions([kind.id], [KWARGS.get(kind.id, {})])
        assert instruction.followed(text) in (True, False)
