"""Where the steps of a completion end in its tokens."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.data.spans import Span


def step_ends(text: str, start: int, steps: Sequence[str], spans: Sequence[Span]) -> list[int] | None:
    """For each step, found in `text` from `start` on, the index of the token that holds its last character.

    None where two steps end in one token, which cannot tell them apart. A step without a character ends where it
    stands: at the token before.
    """
    ends: list[int] = []
    position = start
    for step in steps:
        words = step.strip()
        position = text.index(words, position) + len(words)
        ends.append(max(number for number, span in enumerate(spans) if span.start < position))
    return ends if len(set(ends)) == len(ends) else None
