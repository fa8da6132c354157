"""`gsm8k`: grade-school sums whose answer is one number (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pydantic import Field

from rlhf import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_math.answers import after_thinking
from rlhf_math.quantities import last_number, number_at, numbers
from rlhf_math.references import BadReferenceError, reference_of

_MARK = re.compile(r"####[ \t]*(?:\*\*)?[ \t]*")


class Gsm8kConfig(PartConfig):
    """Options of `gsm8k`."""

    column: str = "reference"
    """Holds the answer: a number, or GSM8K's own solution ending in "#### 72"."""
    strict: bool = False
    """Take only the number right after "####", and no longer the last number of a completion without one."""
    format_score: float = Field(default=0.0, ge=0, le=1)
    """Worth of a wrong number that stands after "####"."""


@dataclass(frozen=True)
class _Answer:
    value: Fraction | None
    marked: bool


class Gsm8k:
    """1 where the completion's number equals the reference's, else 0 or `format_score`.

    The number is the one after the last "####" that a number follows, else the last of the text. Commas of thousands,
    currency signs, percent signs and units do not count, and numbers are compared exactly (72 is 72.0). Parts:
    `answered` (a number was found) and `marked` (it stood after "####").
    """

    def __init__(self, config: Gsm8kConfig, parts: Parts) -> None:
        self.config = config
        self.columns = (config.column,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            reference = reference_of(rollout, self.config.column)
            if reference is None:
                return Score()
            expected = _expected(reference)
        except BadReferenceError as error:
            return Score(error=str(error))
        given = _given(after_thinking(rollout.completion.text), self.config.strict)
        parts = {"answered": float(given.value is not None), "marked": float(given.marked)}
        if given.value == expected:
            return Score(value=1.0, parts=parts)
        return Score(value=self.config.format_score if given.marked else 0.0, parts=parts)


def _expected(reference: str) -> Fraction:
    marked = _after_mark(reference)
    if marked is not None:
        return marked
    found = list(numbers(reference))
    if len(found) != 1 or found[0] is None:
        raise BadReferenceError(f'the reference must hold one number, or one after "####", given {reference!r:.80}')
    return found[0]


def _given(text: str, strict: bool) -> _Answer:
    marked = _after_mark(text)
    if marked is not None or strict:
        return _Answer(marked, marked is not None)
    return _Answer(last_number(text), marked=False)


def _after_mark(text: str) -> Fraction | None:
    """The last number that a "####" stands right before: the same marks begin headings, which hold no answer."""
    found = [value for mark in _MARK.finditer(text) if (value := number_at(text, mark.end())) is not None]
    return found[-1] if found else None
