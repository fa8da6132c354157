"""Text as sentences, by the punctuation of English, Chinese and Japanese; a line of a list is one of its own."""

from __future__ import annotations

import re

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKUP = re.compile(r"(\*\*|__|`)")
_LINE_START = re.compile(r"^\s*(?:[-*+•>]+\s+|\(?\d{1,3}[.)]\s+|#{1,6}\s+)")
# Where a sentence may end; `_ends` says whether it does. A full stop glued to the next sentence counts ("word.Next").
_STOP = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+|$)|(?<=[a-z0-9]{3})\.(?=[A-Z\"][A-Za-z])|[。！？]+")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr gen col lt sgt capt rev hon no vol vs etc eg ie approx dept inc ltd co corp bros mt ft "
    "ca fig est al jan feb mar apr jun jul aug sep sept oct nov dec".split()
)


def plain_text(text: str) -> str:
    """The text without blocks of code and marks of emphasis, neither of which states anything."""
    return _MARKUP.sub("", _CODE_BLOCK.sub("\n", text))


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without list marks and without empty ones."""
    found: list[str] = []
    for line in text.splitlines():
        found.extend(_of_line(_LINE_START.sub("", line)))
    return found


def _of_line(line: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for stop in _STOP.finditer(line):
        if _ends(line, start, stop):
            parts.append(line[start : stop.end()])
            start = stop.end()
    parts.append(line[start:])
    return [part.strip() for part in parts if any(letter.isalnum() for letter in part)]


def _ends(line: str, start: int, stop: re.Match[str]) -> bool:
    """A lone full stop after an abbreviation or an initial does not end a sentence, nor one before a small letter."""
    if not stop.group().startswith(".") or len(stop.group().rstrip("\"'”’)]")) > 1:
        return True
    after = line[stop.end() :].lstrip()
    if after[:1].islower():
        return False
    before = line[start : stop.start()].split()
    word = before[-1].strip("(\"'") if before else ""
    return not after or not (
        word.lower().replace(".", "") in _ABBREVIATIONS or re.fullmatch(r"(?:[A-Z]\.)*[A-Z]", word)
    )
