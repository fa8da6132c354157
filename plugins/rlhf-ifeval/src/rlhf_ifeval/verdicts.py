"""Strict and loose verdicts on a response, as section 2.2 of the paper defines them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rlhf_ifeval.instruction import Instruction

Verdict = Literal["strict", "loose"]


def judge(instructions: Sequence[Instruction], response: str, verdict: Verdict = "strict") -> list[bool]:
    """Which instructions the response follows, in their order.

    `strict` takes the response as it is. `loose` takes an instruction as followed where one of eight readings of the
    response follows it. A blank response, or reading, follows nothing.
    """
    readings = list(_readings(response)) if verdict == "loose" else [response]
    readings = list(dict.fromkeys(text for text in readings if text.strip()))
    return [any(instruction.followed(text) for text in readings) for instruction in instructions]


def _readings(response: str) -> Iterator[str]:
    """The response, that without its first line (an introduction), its last or both; each with stars and without."""
    lines = response.split("\n")
    whole = response, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))
    for text in whole:
        yield text
        yield text.replace("*", "")
