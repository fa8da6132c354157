"""Items of evaluations within rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.data.curation.contamination import EvaluationItems, Overlap
from rlhf.data.curation.wording import Grams, word_hashes

LONG = "Explain in your own words why the sky over the sea looks blue at noon and red at dusk"  # 18 words
MEDIUM = "Which two rivers meet in the town of Koblenz"  # 9 words
SHORT = "Who wrote Faust?"


def items(tmp_path: Path, *rows: dict[str, object]) -> EvaluationItems:
    file = tmp_path / "evaluation.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = tmp_path / "items.npz"
    EvaluationItems.read([str(file)]).save(written)
    return EvaluationItems.load(written)


def found(known: EvaluationItems, *texts: str) -> Overlap | None:
    return known.find(texts[0], Grams(word_hashes(texts)))


@pytest.fixture
def known(tmp_path: Path) -> EvaluationItems:
    return items(tmp_path, {"prompt": LONG}, {"prompt": MEDIUM}, {"prompt": SHORT})


def test_thirteen_words_in_a_row_are_found_wherever_they_stand(known: EvaluationItems) -> None:
    thirteen = " ".join(LONG.split()[2:15])
    assert found(known, "Hello.", f"She said: {thirteen.upper()}!") == Overlap("evaluation.jsonl:1", 13)
    twelve = " ".join(LONG.split()[2:14])
    assert found(known, "Hello.", f"She said: {twelve}, or so.") is None


def test_an_item_of_eight_to_twelve_words_is_found_as_a_whole(known: EvaluationItems) -> None:
    assert found(known, f"Please tell: {MEDIUM}? Thanks") == Overlap("evaluation.jsonl:2", 9)
    assert found(known, "Which two rivers meet in the town of Passau") is None


def test_a_short_question_counts_only_where_it_is_all_that_is_asked(known: EvaluationItems) -> None:
    assert found(known, "who wrote faust") == Overlap("evaluation.jsonl:3", 0)
    assert found(known, "Tell me who wrote Faust?") is None
    assert found(known, "Hello", "Who wrote Faust?") is None, "an answer is no question"


def test_words_of_two_texts_are_not_in_a_row(known: EvaluationItems) -> None:
    words = LONG.split()
    assert found(known, " ".join(words[:9]), " ".join(words[9:])) is None


def test_what_many_items_share_is_their_form(tmp_path: Path) -> None:
    form = "Choose the best answer to the question below and explain it step by step in full"
    rows = [
        {"prompt": f"{form}: {number} times {number} of this particular number is what exactly"} for number in range(12)
    ]
    assert found(items(tmp_path, *rows), form) is None
    assert found(items(tmp_path, *rows[:10]), form) is not None


def test_rows_of_no_known_format_give_all_their_texts(tmp_path: Path) -> None:
    known = items(tmp_path, {"Question": MEDIUM, "Best Answer": LONG})
    assert found(known, f"well, {MEDIUM}?") is not None
    assert found(known, f"well, {LONG}.") is not None


def test_questions_within_lists_are_read_too(tmp_path: Path) -> None:
    known = items(tmp_path, {"id": 1, "turns": [{"content": LONG}, SHORT], "note": "Really?"})
    assert found(known, LONG) is not None
    assert found(known, SHORT) == Overlap("evaluation.jsonl:1", 0)
    assert found(known, "Really?") is None, "a note asks nothing"
