"""Where each message's content stands in a rendered conversation, found with marks that no text holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.errors import DataError
from rlhf.types import Message

# Unicode noncharacters ("never text", U+FDD0..U+FDEF), followed by the message's number as a private-use character.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_FIRST_NUMBER = 0xF0000
_MARK = re.compile(f"([{_OPEN}{_CLOSE}])([\U000f0000-\U000ffffd])")


@dataclass(frozen=True, order=True)
class Span:
    """Characters `start` to `end` of a text, the end excluded."""

    start: int
    end: int


@dataclass(frozen=True)
class Marked:
    """A rendered text with its marks taken out: `spans[k]` holds content of message `owners[k]`, in text order."""

    text: str
    spans: tuple[Span, ...]
    owners: tuple[int, ...]

    def of(self, message: int) -> Span | None:
        """Where a message's content stands (last, where a template repeats it)."""
        found = [span for span, owner in zip(self.spans, self.owners, strict=True) if owner == message]
        return found[-1] if found else None

    def next_start(self, position: int) -> int:
        """Start of the next content at or after a position, or the end of the text."""
        return min((span.start for span in self.spans if span.start >= position), default=len(self.text))


class _MarkedText(str):
    """A marked content that answers questions about its edges as if it were not marked: templates ask them."""

    __slots__ = ()

    def startswith(self, *args: object) -> bool:
        return _MARK.sub("", self).startswith(*args)  # type: ignore[arg-type]

    def endswith(self, *args: object) -> bool:
        return _MARK.sub("", self).endswith(*args)  # type: ignore[arg-type]


def mark(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with marks around their contents, inside leading and trailing whitespace, which templates trim."""
    marked = []
    for number, message in enumerate(messages):
        content = message["content"]
        if _OPEN in content or _CLOSE in content:
            raise DataError("a message holds U+FDD0 or U+FDD1, which Unicode reserves as no characters: remove them.")
        core = content.strip()
        if core or message["role"] == "assistant":
            tag = chr(_FIRST_NUMBER + number)
            before, after = content[: len(content) - len(content.lstrip())], content[len(content.rstrip()) :]
            before, after = (before, after) if core else ("", "")
            content = _MarkedText(f"{before}{_OPEN}{tag}{core}{_CLOSE}{tag}{after}")
        marked.append({"role": message["role"], "content": content})
    return marked


def unmark(text: str, messages: Sequence[Message]) -> Marked:
    """Take the marks out of a rendered text and return where they stood.

    A template may drop the head of a content (thinking, up to `</think>`) together with its opening mark. What is left
    is then the longest end of the content that stands before the closing mark.
    """
    pieces: list[str] = []
    length, position = 0, 0
    opened: dict[int, int] = {}
    found: list[tuple[Span, int]] = []
    for hit in _MARK.finditer(text):
        pieces.append(text[position : hit.start()])
        length, position = length + hit.start() - position, hit.end()
        owner = ord(hit.group(2)) - _FIRST_NUMBER
        if hit.group(1) == _OPEN:
            opened[owner] = length
        else:
            start = opened.pop(owner, None)
            if start is None:
                start = length - _common_end("".join(pieces), messages[owner]["content"].strip())
            found.append((Span(start, length), owner))
    pieces.append(text[position:])
    found.sort()
    return Marked("".join(pieces), tuple(span for span, _ in found), tuple(owner for _, owner in found))


def _common_end(text: str, content: str) -> int:
    count = 0
    while count < min(len(text), len(content)) and text[-1 - count] == content[-1 - count]:
        count += 1
    return count
