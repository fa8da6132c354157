"""What is wrong with a row, or looks so. Each finding has a kind, which `KINDS` explains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from rlhf.data.curation.row_view import RowView

Severity = Literal["problem", "hint"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding: whether it makes data unfit, and what to do about it."""

    severity: Severity
    meaning: str
    advice: str


KINDS: dict[str, Kind] = {
    "not_utf8": Kind("problem", "bytes that are not UTF-8", "convert the file to UTF-8"),
    "not_json": Kind("problem", "lines that are no JSON object", "mend or remove them"),
    "empty": Kind("problem", "a prompt, turn or answer without text", "remove them: `rlhf data curate` does"),
    "turns": Kind("problem", "turns out of order, one-sided, or of an unknown role", "mend the roles"),
    "equal_sides": Kind("problem", "chosen and rejected are the same", "remove them: nothing can be learnt from them"),
    "bad_row": Kind("problem", "rows not of the file's format", "mend them, or name the format with --format"),
    "duplicate": Kind("problem", "rows that say what an earlier one says", "`rlhf data curate` removes them"),
    "contradiction": Kind("problem", "one comparison or answer judged both ways", "decide which label is right"),
    "damaged_text": Kind("problem", "letters lost or garbled by a wrong encoding", "read the source as what it is"),
    "contamination": Kind(
        "problem", "rows that hold items of an evaluation", "`rlhf data curate --against` removes them"
    ),
    "doubtful_label": Kind("hint", "the rejected side has the higher score", "look at these labels"),
    "echo": Kind("hint", "the answer repeats the question", "look at these answers"),
    "markup": Kind("hint", "HTML entities in the text", "unescape them"),
    "same_prompt": Kind("hint", "prompts that an earlier row asks too", "fine where several answers are wanted"),
    "common_answer": Kind("hint", "one answer to many prompts", "look whether it is boilerplate"),
}

_FAULTS: tuple[tuple[str, str], ...] = (
    ("not UTF-8", "not_utf8"),
    ("not valid JSON", "not_json"),
    ("not JSON that can be read", "not_json"),
    ("expected an object", "not_json"),
    ("equal", "equal_sides"),
    ("has no turns", "turns"),
    ("there is no assistant turn", "turns"),
    ("there is no prompt", "turns"),
    ("does not end in a turn", "turns"),
    ("of role", "turns"),
    ("unknown role", "turns"),
    ("is empty", "empty"),
    ("is null", "empty"),
)
# UTF-8 read as Latin-1 or Windows-1252: the lead byte of two- and three-byte letters, then what follows it.
_MOJIBAKE = re.compile("[\u00c2\u00c3][\u0080-\u00bf\u201a-\u2122]|\u00e2\u20ac[\u0090-\u00bf\u2018-\u2122]|\ufffd")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_ENTITY = re.compile(r"&(?:amp|quot|lt|gt|nbsp|#\d{2,4}|#x[0-9a-fA-F]{2,4});")


def kind_of_fault(fault: str) -> str:
    """The kind of a row that could not be read, by what is said of it."""
    return next((kind for words, kind in _FAULTS if words in fault), "bad_row")


def findings_in(view: RowView) -> Iterator[tuple[str, str]]:
    """Kind and details of what is found in one row that could be read."""
    for text in view.texts:
        damage = _MOJIBAKE.search(text) or _CONTROL.search(text)
        if damage is not None:
            yield "damaged_text", f"{damage.group()!r} in {_around(text, damage)}"
            break
    entity = next((found for text in view.texts if (found := _ENTITY.search(text))), None)
    if entity is not None:
        yield "markup", f"{entity.group()} in {_around(entity.string, entity)}"
    ranking = view.record.ranking
    if ranking is not None and ranking.margin < 0:
        yield "doubtful_label", f"margin {ranking.margin:g}"
    asked = view.prompt.last_user_text.strip() if view.prompt else ""
    if view.answers and len(asked) > 20 and view.answers[0].strip() == asked:
        yield "echo", asked[:60]


def _around(text: str, found: re.Match[str]) -> str:
    return repr(text[max(0, found.start() - 20) : found.end() + 20])


def example(line: int, details: str) -> dict[str, Any]:
    """A finding as a report has it."""
    return {"line": line, "details": details}
