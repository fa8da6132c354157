"""Verdicts are read from one place of the answer, and what is not there or out of bounds is an error."""

from __future__ import annotations

import pytest

from rlhf_judge.faults import Unreadable
from rlhf_judge.verdict import rationale, read_choice, read_score

FIVE = (1.0, 5.0)
PAIR = ("1", "2", "tie")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 4", 4),
        ("Right and short.\nScore: 4", 4),
        ("Right.\n\n**Score: 4**\n\n", 4),
        ("Right.\n**Score:** 4/5", 4),
        ("Right.\nscore = 3.5", 3.5),
        ("Right.\n## Score: [2]", 2),
        ("Right.\n> Score: 2.", 2),
        ("Right.\nScore: **4.**", 4),
        ("Score: 1\nNo, on second thoughts:\nScore: 5", 5),
        ("<think>Score: 1\nor more?</think>\nRight.\nScore: 5", 5),
        ("It ends with 'Score: 5', which earns nothing.\nScore: 1", 1),
    ],
)
def test_the_last_line_is_the_verdict(text, score):
    assert read_score(text, "line", FIVE) == score


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not end with a line `Score: ...`: nothing"),
        ("4", "does not end with a line"),
        ("Score: 5\nThat was the answer's own claim; mine would be lower.", "does not end with a line"),
        ("The answer says Score: 5", "does not end with a line"),
        ("Score: 5 because it is right", "no number"),
        ("Score: four", "no number"),
        ("Score: ４", "no number"),
        ("Score: nan", "no number"),
        ("Score: 1e9", "no number"),
        ("Score:", "no number"),
        ("Score: 10", "10 is out of the scale 1 to 5"),
        ("Score: 0", "0 is out of the scale"),
        ("Score: .5", "no number"),
        ("Score: **-3**", "-3 is out of the scale"),
        ("Score: -3", "-3 is out of the scale"),
        ("Score: 4/10", "out of 10, the scale to 5"),
        ("Score: 4 5", "no number"),
        ("<think>Score: 5", "does not end with a line"),
    ],
)
def test_anything_else_is_unreadable(text, words):
    if text == "<think>Score: 5":
        text += " is what I would say</think>"
    with pytest.raises(Unreadable) as caught:
        read_score(text, "line", FIVE)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"reason": "right", "score": 4}', 4),
        ('```json\n{"reason": "right", "score": 4.5}\n```', 4.5),
        ('<think>{"score": 1}</think>{"reason": "right", "score": 5}', 5),
    ],
)
def test_a_json_verdict_is_the_whole_answer(text, score):
    assert read_score(text, "json", FIVE) == score
    assert rationale(text, "json") == "right"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('Here: {"score": 4}', "not a JSON object"),
        ('{"score": 4} {"score": 5}', "not a JSON object"),
        ('{"score": "4"}', "no number"),
        ('{"score": true}', "no number"),
        ('{"score": null}', "no number"),
        ('{"score": NaN}', "no number"),
        ('{"score": 99}', "out of the scale"),
        ('{"reason": "right"}', "no 'score'"),
        ("[4]", "no 'score'"),
        ("4", "no 'score'"),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_other_json_is_unreadable(text, words):
    with pytest.raises(Unreadable, match=words):
        read_score(text, "json", FIVE)


@pytest.mark.parametrize(
    ("text", "form", "choice"),
    [
        ("Because.\nBetter: 1", "line", "1"),
        ("Because.\n**Better: [2]**", "line", "2"),
        ("Because.\nBETTER: Tie.", "line", "tie"),
        ('{"reason": "", "better": "tie"}', "json", "tie"),
        ('{"reason": "", "better": 2}', "json", "2"),
    ],
)
def test_choices(text, form, choice):
    assert read_choice(text, form, PAIR) == choice


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Better: 3", "line"),
        ("Better: answer 1", "line"),
        ("Better: 1 or 2", "line"),
        ("Better:", "line"),
        ("1", "line"),
        ('{"better": "A"}', "json"),
        ('{"better": null}', "json"),
    ],
)
def test_other_choices_are_unreadable(text, form):
    with pytest.raises(Unreadable):
        read_choice(text, form, PAIR)


def test_the_rationale_is_what_was_said_before():
    assert rationale("<think>hm</think>\nIt is right.\nAnd short.\n\nScore: 5", "line") == "It is right.\nAnd short."
    assert rationale("Score: 5", "line") == ""
