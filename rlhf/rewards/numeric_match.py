"""Is a number of the completion the right one?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.rewards.numbers_in_text import Number, numbers_in
from rlhf.rewards.right_answers import NoAnswer, right_answers
from rlhf.types import Prompt, Rollout, Score


class NumericMatchConfig(PartConfig):
    """Options of `numeric_match`."""

    column: str = "reference"
    """Column of the data with the right number, a text that holds it, or a list of right ones."""
    take: Literal["last", "first"] = "last"
    """Which number counts, of the completion and of a reference that is a text."""
    abs_tolerance: float = Field(default=0.0, ge=0)
    """How far off a right answer may be."""
    rel_tolerance: float = Field(default=0.0, ge=0)
    """The same as a share of the reference; the wider of the two decides."""
    decimal: Literal[".", ","] = "."
    """The decimal point: with "." 1,234.5 is read as one number, with "," 1.234,5 is. So is a reference in text; what
    another column has as a number is taken as it is.
    """
    percent: Literal["ignore", "divide"] = "ignore"
    """What a percent sign means: nothing (85% is 85), or a hundredth (85% is 0.85)."""


class NumericMatch:
    """1 where the last (or first) number of the completion is the right one, else 0; 0 where it has no number.

    Numbers are compared exactly, not as floats, unless a tolerance is given. Digits of every script count, and so do
    thousands separators, exponents and the minus sign U+2212. A row without a number to compare with is an error.
    Fractions and roots are text here: `plugins/rlhf-math` judges mathematics. The last number is what GSM8K
    (arXiv:2110.14168), whose references end in "#### 42", is commonly judged by.
    """

    def __init__(self, config: NumericMatchConfig, parts: Parts) -> None:
        self.config = config
        self.columns = (config.column,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            right = self._right_numbers(rollout.prompt)
        except NoAnswer as error:
            return Score(error=str(error))
        said = self._number(rollout.completion.text)
        return Score(value=float(said is not None and any(self._equal(said, number) for number in right)))

    def _right_numbers(self, prompt: Prompt) -> list[Fraction]:
        numbers = []
        for answer in right_answers(prompt, self.config.column):
            number = self._number(answer) if isinstance(answer, str) else _finite(answer)
            if number is None:
                raise NoAnswer(f"row {prompt.id!r} has no number in {self.config.column!r}: {str(answer)[:80]!r}")
            numbers.append(number)
        return numbers

    def _number(self, text: str) -> Fraction | None:
        chosen: Number | None = None
        for number in numbers_in(text, self.config.decimal):
            chosen = number
            if self.config.take == "first":
                break
        if chosen is None or chosen.value is None:
            return None
        return chosen.value / 100 if chosen.is_percent and self.config.percent == "divide" else chosen.value

    def _equal(self, said: Fraction, right: Fraction) -> bool:
        share = _exact(self.config.rel_tolerance) * abs(right)
        return abs(said - right) <= max(_exact(self.config.abs_tolerance), share)


def _finite(number: float) -> Fraction | None:
    return _exact(number) if math.isfinite(number) else None


def _exact(number: float) -> Fraction:
    """By way of its digits: 0.1 is a tenth, and not the float beside it."""
    return Fraction(str(number))
