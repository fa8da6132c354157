r"""Where the answer stands in a completion: in \boxed{}, in <answer> tags, after "####". Never in its thinking."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def after_thinking(text: str) -> str:
    """What follows `</think>`. Nothing where thinking began and never ended: an answer is not tried on the way."""
    said = text.rpartition("</think>")[2]
    return "" if "<think>" in said else said


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` (or `\fbox{...}`) holds, with balanced braces.

    None where there is none, or where the last one is never closed: the text ended before the answer did. A box in a
    box is opened, so that `\boxed{\boxed{5}}` holds 5.
    """
    boxes = list(_BOX.finditer(text))
    return _balanced(text, boxes[-1].end()) if boxes else None


def last_tagged(text: str) -> str | None:
    """What the last `<answer>...</answer>` holds; None where there is no such pair."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if start >= 0 else None


def after_mark(text: str) -> str | None:
    """What the last line with "####", the mark of GSM8K, has after it; None where there is none."""
    marked = text.rpartition("####")
    return marked[2].partition("\n")[0].strip() or None if marked[1] else None


def is_balanced(text: str) -> bool:
    """Whether every brace of the text has its other half."""
    return _balanced(f"{{{text}}}", 0) == text.strip()


def _balanced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and the one that closes it; escaped braces do not count."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start + 1 : brace.start()].strip()
    return None
