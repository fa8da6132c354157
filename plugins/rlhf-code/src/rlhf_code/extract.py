"""The program a completion holds."""

from __future__ import annotations

import textwrap

_PYTHON = ("python", "python3", "py")


def program_of(completion: str, *, unfenced: bool) -> str | None:
    """The last block fenced as Python, else the last one fenced without a language, else the whole text if `unfenced`.

    A block without an end (a completion cut short) reaches to the end of the text. Fences are those of CommonMark:
    three or more backticks or tildes, closed by at least as many.
    """
    blocks = _fenced(completion)
    for languages in (_PYTHON, ("",)):
        matching = [source for language, source in blocks if language in languages]
        if matching:
            return matching[-1]
    return completion if unfenced and not blocks else None


def _fenced(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    blocks: list[tuple[str, str]] = []
    fence, language, lines = "", "", list[str]()
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        if not fence:
            fence = _fence_at_start(stripped)
            language = (stripped[len(fence) :].split() or [""])[0].lower()
            lines = []
        elif stripped.startswith(fence) and not stripped.strip(fence[0]):
            blocks.append((language, textwrap.dedent("".join(lines))))
            fence = ""
        else:
            lines.append(line)
    if fence:
        blocks.append((language, textwrap.dedent("".join(lines))))
    return blocks


def _fence_at_start(line: str) -> str:
    """The run of backticks or tildes a fence opens with, or an empty string."""
    for mark in ("`", "~"):
        fence = line[: len(line) - len(line.lstrip(mark))]
        if len(fence) >= 3 and mark not in line[len(fence) :]:
            return fence
    return ""
