"""Does the completion match a pattern, of the recipe or of its own row?"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator, model_validator

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.rewards.right_answers import NoAnswer, value_of
from rlhf.rewards.timed_patterns import TimedPattern, compiled
from rlhf.types import Prompt, Rollout, Score


class RegexMatchConfig(PartConfig):
    """Options of `regex_match`: `pattern` or `column`."""

    pattern: str | None = None
    """A regular expression in the syntax of Python's `re`; flags can be written into it, as `(?s)`."""
    column: str | None = None
    """Column of the data that holds each row's own pattern."""
    whole: bool = False
    """The pattern must match all of the completion, not just some part of it."""
    ignore_case: bool = False
    time_limit: float = Field(default=1.0, gt=0)
    """Seconds a pattern may spend on one completion; one that needs more is an error of that row."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @model_validator(mode="after")
    def _one_source(self) -> RegexMatchConfig:
        if (self.pattern is None) == (self.column is None):
            raise ValueError("give either `pattern` or `column` (where each row's own pattern is)")
        return self


class RegexMatch:
    """1 where the pattern matches, else 0; an empty completion is matched like any other.

    Classes such as "word character" follow Unicode. A row whose pattern is missing, broken or too slow is an error.
    """

    def __init__(self, config: RegexMatchConfig, parts: Parts) -> None:
        self.config = config
        self.columns = () if config.column is None else (config.column,)
        self._patterns: dict[str, TimedPattern] = {}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        try:
            pattern = self._pattern(rollout.prompt)
            matches = pattern.is_all_of if self.config.whole else pattern.is_in
            return Score(value=float(matches(rollout.completion.text)))
        except (NoAnswer, TimeoutError) as error:
            return Score(error=str(error))

    def _pattern(self, prompt: Prompt) -> TimedPattern:
        text = self.config.pattern
        if text is None:
            text = str(value_of(prompt, str(self.config.column)))
        if text not in self._patterns:
            try:
                self._patterns[text] = TimedPattern(text, self.config.time_limit, ignore_case=self.config.ignore_case)
            except ValueError as error:
                raise NoAnswer(f"row {prompt.id!r}, column {self.config.column!r}: {error}") from None
        return self._patterns[text]
