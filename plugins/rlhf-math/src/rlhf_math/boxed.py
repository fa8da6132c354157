r"""`boxed`: the last \boxed{...} against the reference, as text: exact, fast, and without a library of algebra."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rlhf import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_math.answers import after_thinking, last_boxed
from rlhf_math.latex_text import same_answer
from rlhf_math.references import BadReferenceError, final_answer, reference_of


class BoxedConfig(PartConfig):
    """Options of `boxed`."""

    column: str = "reference"
    r"""Holds the answer: as it is, or a solution with the answer in its last \boxed{...} or after "####"."""
    format_score: float = Field(default=0.0, ge=0, le=1)
    """Worth of a wrong answer in a box."""


class Boxed:
    """1 where the last box holds the reference in some usual spelling, else 0, or `format_score` for any box.

    Part `answered`: there is a box, and it is closed.
    """

    def __init__(self, config: BoxedConfig, parts: Parts) -> None:
        self.config = config
        self.columns = (config.column,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            reference = reference_of(rollout, self.config.column)
            if reference is None:
                return Score()
            expected = final_answer(reference)
        except BadReferenceError as error:
            return Score(error=str(error))
        given = last_boxed(after_thinking(rollout.completion.text))
        if not given:
            return Score(value=0.0, parts={"answered": 0.0})
        right = same_answer(given, expected)
        return Score(value=1.0 if right else self.config.format_score, parts={"answered": 1.0})
