"""Texts cut into passages: paragraphs, or overlapping windows of long ones, under the heading they stand below."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlhf_grounded.evidence import Passage

_PARAGRAPH_END = re.compile(r"\n\s*\n")
_HEADING = re.compile(r"#{1,6}\s+(.+)")
_WORD = re.compile(r"\S+")


def cut(text: str, source: str, longest: int) -> Iterator[Passage]:
    """The passages of a text, none above `longest` words; their sources are numbered from 1.

    Each begins with the Markdown heading it stands below, which says of what it speaks.
    """
    heading, number = "", 0
    for paragraph in _PARAGRAPH_END.split(text):
        body = paragraph.strip()
        first, _, rest = body.partition("\n")
        title = _HEADING.fullmatch(first)
        if title:
            heading, body = title[1].strip(" #"), rest.strip()
        for window in windows(body, longest) if body else ():
            number += 1
            yield Passage(f"{heading}\n{window}" if heading else window, f"{source}#{number}")


def windows(text: str, longest: int) -> list[str]:
    """The text in pieces of at most `longest` words; each begins with the last quarter of the one before."""
    words = [word.span() for word in _WORD.finditer(text)]
    if len(words) <= longest:
        return [text]
    shared = longest // 4
    starts = range(0, len(words) - shared, longest - shared)
    pieces = [words[start : start + longest] for start in starts]
    return [text[piece[0][0] : piece[-1][1]] for piece in pieces]
