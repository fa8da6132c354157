"""Every kind of instruction, by hand: texts that follow it and texts that do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from rlhf_ifeval.kinds import KINDS, read_instructions
from rlhf_ifeval.verdicts import judge


@dataclass(frozen=True)
class Case:
    """One instruction and texts on both sides of it."""

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    followed: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()


CASES = [
    Case(
        "keywords:existence",
        {"keywords": ["war", "peace"]},
        followed=("War and Peace", "PEACE after postwar years"),
        missed=("war and war", "pea ce and war", "wår and peace"),
    ),
    Case("keywords:existence", {"keywords": ["C++", "why?"]}, followed=("Why? C++!",), missed=("ccc wh",)),
    Case("keywords:existence", {"keywords": ["Straße"]}, followed=("die STRAßE",), missed=("die Strase",)),
    Case(
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "at least"},
        followed=("War, war", "warwar", "postwar WARS war"),
        missed=("war", "w a r"),
    ),
    Case(
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "less than"},
        followed=("war", "peace"),
        missed=("war war", "War toward"),
    ),
    Case(
        "keywords:frequency",
        {"keyword": " .* ", "frequency": 1, "relation": "at least"},
        followed=("a .* b",),
        missed=("anything",),
    ),
    Case(
        "keywords:forbidden_words",
        {"forbidden_words": ["rock", "C#"]},
        followed=("rocket science", "bedrock", "rock_solid", "C and D"),
        missed=("Rock!", "a rock-hard bed", "learn c#"),
    ),
    Case(
        "keywords:letter_frequency",
        {"letter": "T", "let_frequency": 3, "let_relation": "less than"},
        followed=("Two tales", "none"),
        missed=("the TTs",),
    ),
    Case(
        "keywords:letter_frequency",
        {"letter": "!", "let_frequency": 2, "let_relation": "at least"},
        followed=("Oh! Ah!",),
        missed=("Oh!",),
    ),
    Case(
        "language:response_language",
        {"language": "de"},
        followed=("Der schnelle braune Fuchs springt über den faulen Hund, und niemand sieht es.",),
        missed=("The quick brown fox jumps over the lazy dog and nobody sees it.", "12345", "😀😀"),
    ),
    Case(
        "language:response_language",
        {"language": "zh"},
        followed=("今天天气很好，我们去公园散步吧。",),
        missed=("今日はとても良い天気なので公園へ行きましょう。",),
    ),
    Case(
        "language:response_language",
        {"language": "hi"},
        followed=("आज मौसम बहुत अच्छा है और हम बाहर जा रहे हैं।",),
        missed=("Aaj mausam bahut accha hai",),
    ),
    Case(
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        followed=("One. Two! Three?", "One.\nTwo.\nThree", "“One.” (Two.) *Three.* Four."),
        missed=(
            "One. Two!",
            "One...two!!! three",
            "Dr. Who met Mr. Smith at 3.15 p.m. on Jan. 3.",
            "One\n\nTwo\n\nThree",
        ),
    ),
    Case(
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        followed=("One!!!", "no mark at all", "He is 1.5 m tall.", "J. Bach wrote it. 🎉"),
        missed=("One. Two.", "他来了。他走了。"),
    ),
    Case(
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        followed=("a\n***\nb", "***\na\n***\nb\n***", "a *** b"),
        missed=("a", "a\n\nb", "a\n***\n***\nb", "a\n***\nb\n***\nc", "***"),
    ),
    Case(
        "length_constraints:number_words",
        {"num_words": 4, "relation": "at least"},
        followed=("one two three four", "I don't know", "über allen Gipfeln ist"),
        missed=("one two three", "- - - - -"),
    ),
    Case(
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        followed=("one two", "!!!"),
        missed=("one two three",),
    ),
    Case(
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        followed=("a b\n\nweekend!", 'a\n\n"Weekend" is', "a\n\n\n\nWeekend's end", "a\n\nweekend"),
        missed=(
            "weekend\n\na",
            "a\n\nweekends",
            "a\n\nweekend\n\nb",
            "a\nweekend",
            "a\n\nthe weekend",
            "weekend",
            "a\n\n...weekend",
        ),
    ),
    Case(
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "don't"},
        followed=("Don't go",),
        missed=("Don go", "Do not go"),
    ),
    Case(
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        followed=("[name], [address]", "[a][b]", "x] [a [b] [c]"),
        missed=("[name]", "[na\nme] [b]", "(a) (b)", "[[a", "]a[ ]"),
    ),
    Case(
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        followed=("Bye.\nP.S. One more", "p. s. lower", "Bye. P.S."),
        missed=("PS: one", "Bye."),
    ),
    Case(
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        followed=("P.P.S. two", "p. p. s"),
        missed=("P.S. one",),
    ),
    Case("detectable_content:postscript", {"postscript_marker": "N.B."}, followed=("n. b. this",), missed=("nb",)),
    Case(
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        followed=("* a\n* b", "Intro:\n  - a\n\t- b\nend", "* a\n- b\n**bold**"),
        missed=("* a", "* a\n* b\n* c", "1. a\n2. b", "a * b\nc - d", "**a**\n**b**"),
    ),
    Case(
        "detectable_format:constrained_response",
        followed=("My answer is yes.", "Well. My answer is maybe. Indeed."),
        missed=("My answer is yes", "my answer is no.", "Yes."),
    ),
    Case(
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        followed=("*a* and *b*", "**a** and **b c**", "**a** *b*"),
        missed=("*a*", "**** ****", "* *", "* a\n* b", "*a\nb*"),
    ),
    Case(
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        followed=("Section 1\na\nSection 2\nb", "Section1 Section2", "# Section 1\n# Section 2\n# Section 3"),
        missed=("Section 1", "SECTION 1 SECTION 2", "Section one Section two"),
    ),
    Case(
        "detectable_format:multiple_sections",
        {"section_spliter": "(", "num_sections": 1},
        followed=("(1) a",),
        missed=("1) a",),
    ),
    Case(
        "detectable_format:json_format",
        followed=('{"a": [1, 2]}', '```json\n{"a": 1}\n```', "```JSON\n[]\n```", "```\n{}\n```", ' {"ü": "中"} '),
        missed=("{'a': 1}", 'Sure: {"a": 1}', '{"a": 1', "[" * 100_000, '```json\n{"a": 1}\n```\nDone.'),
    ),
    Case(
        "detectable_format:title",
        followed=("<<poem of joy>>\ntext", "x <<a>> y", "<<<a>>>", ">> <<a>>"),
        missed=("<poem>", "<<>>", "<< >>", "<<a\nb>>", ">>a<<", "<<>>>>"),
    ),
    Case(
        "combination:two_responses",
        followed=("a******b", "a\n******\nb\n******", "******a******b"),
        missed=("a", "a******a", "a******b******c", "a************b", "a***b", "******"),
    ),
    Case(
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem. "},
        followed=("Write a poem. Roses", " write A poem.\n\nRoses", "Write a poem."),
        missed=("Sure! Write a poem.", "Write  a poem.", "Write a"),
    ),
    Case(
        "startend:end_checker",
        {"end_phrase": "Is there anything else?"},
        followed=("Bye. Is there anything else?", '"is there anything else?"\n'),
        missed=("Is there anything else? Bye", "Is there anything else"),
    ),
    Case("startend:end_checker", {"end_phrase": 'he said "no"'}, followed=('And he said "no"',), missed=("he said",)),
    Case(
        "startend:quotation",
        followed=('"All of it."', ' "a" and "b"\n', '""'),
        missed=('"', '"a', "a", "'a'", "“a”", '"a" b'),
    ),
    Case(
        "change_case:english_capital",
        followed=("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND NOBODY SEES IT.", "PLEASE CALL ME LATER."),
        missed=("The quick brown fox", "DER SCHNELLE BRAUNE FUCHS SPRINGT ÜBER DEN FAULEN HUND", "123", "中文"),
    ),
    Case(
        "change_case:english_lowercase",
        followed=("the quick brown fox jumps over the lazy dog and nobody sees it.",),
        missed=("The quick brown fox jumps over it", "der schnelle braune fuchs springt über den hund", "123"),
    ),
    Case(
        "change_case:capital_word_frequency",
        {"capital_frequency": 3, "capital_relation": "at least"},
        followed=("NATO, A and STATE-OF-THE-ART", "**IT** (IS) [MP3]", "I'M SURE", "ÄÖÜ É ß-LOS ЖДУ"),
        missed=("NATO and Usa", "I'm, you're", "1 2 3", "NATO-LED U.S.-BASED"),
    ),
    Case(
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        followed=("A dog", "none"),
        missed=("A DOG",),
    ),
    Case("punctuation:no_comma", followed=("a; b. c", "a‚b"), missed=("a, b", "1,000", "甲，乙", "ا، ب")),
]


def follows(case: Case, text: str) -> bool:
    (instruction,) = read_instructions([case.id], [case.kwargs])
    (verdict,) = judge([instruction], text)
    return verdict


@pytest.mark.parametrize(
    ("case", "text"), [pytest.param(case, text, id=f"{case.id}-{text:.30}") for case in CASES for text in case.followed]
)
def test_is_followed(case: Case, text: str) -> None:
    assert follows(case, text)


@pytest.mark.parametrize(
    ("case", "text"), [pytest.param(case, text, id=f"{case.id}-{text:.30}") for case in CASES for text in case.missed]
)
def test_is_not_followed(case: Case, text: str) -> None:
    assert not follows(case, text)


def test_every_kind_is_shown_on_both_sides() -> None:
    assert len(KINDS) == 25
    assert {case.id for case in CASES if case.followed} == set(KINDS)
    assert {case.id for case in CASES if case.missed} == set(KINDS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000"])
def test_a_blank_response_follows_nothing(case: Case, text: str) -> None:
    assert not follows(case, text)
    instructions = read_instructions([case.id], [case.kwargs])
    assert judge(instructions, text, "loose") == [False]
