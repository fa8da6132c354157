"""Is the completion the right answer, letter by letter?"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.rewards.right_answers import NoAnswer, right_answers
from rlhf.types import Rollout, Score


class ExactMatchConfig(PartConfig):
    """Options of `exact_match`."""

    column: str = "reference"
    """Column of the data with the right answer, or with a list of right answers."""
    ignore_case: bool = False
    """Compare by Unicode case folding, under which "Straße" is "STRASSE"."""
    ignore_spaces: bool = True
    """A run of white space counts as one space, and none at the ends."""
    ignore_punctuation: bool = False
    """Leave out punctuation (Unicode category P): quotes, full stops, hyphens, brackets, of any script."""


class ExactMatch:
    """1 where the completion is one of the right answers, else 0, as an empty completion is.

    Canonically equivalent Unicode texts are equal, however their accents are coded. A row without an answer, or whose
    answer is empty once it is normalised, is an error. The normalisation by options is that of SQuAD
    (arXiv:1606.05250) without its removal of English articles.
    """

    def __init__(self, config: ExactMatchConfig, parts: Parts) -> None:
        self.config = config
        self.columns = (config.column,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            answers = [self._normalised(str(answer)) for answer in right_answers(rollout.prompt, self.config.column)]
        except NoAnswer as error:
            return Score(error=str(error))
        if not all(answers):
            return Score(error=f"row {rollout.prompt.id!r} has nothing but punctuation in {self.config.column!r}")
        return Score(value=float(self._normalised(rollout.completion.text) in answers))

    def _normalised(self, text: str) -> str:
        text = unicodedata.normalize("NFD", text)
        if self.config.ignore_case:
            text = unicodedata.normalize("NFD", text.casefold())
        if self.config.ignore_punctuation:
            text = "".join(letter for letter in text if not unicodedata.category(letter).startswith("P"))
        return " ".join(text.split()) if self.config.ignore_spaces else text
