"""Is the completion laid out as asked, whatever it says?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field, field_validator, model_validator

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.rewards.timed_patterns import TimedPattern, compiled
from rlhf.types import Rollout, Score


class FormatConfig(PartConfig):
    """Options of `format`: `tags` or `pattern`."""

    tags: tuple[str, ...] = ()
    """`[think, answer]` asks for `<think>..</think><answer>..</answer>`: each tag opened and closed once, in this
    order, with something other than white space inside, and nothing but white space outside.
    """
    text_outside: bool = False
    """With `tags`: text before, between and after them is fine."""
    first_tag_in_prompt: bool = False
    """With `tags`: the first tag is opened by the prompt, as the chat templates of some reasoning models do, and not
    by the completion.
    """
    pattern: str | None = None
    """Instead of `tags`: a regular expression that must match the whole completion. A dot is any letter but a line's
    end, and with `(?s)` in front any letter.
    """
    time_limit: float = Field(default=1.0, gt=0)
    """Seconds the pattern may spend on one completion; one that needs more is an error of that row."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @field_validator("tags")
    @classmethod
    def _are_names(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[\w.:-]+", tag) for tag in tags):
            raise ValueError("name a tag without its brackets: think, not <think>")
        if len(set(tags)) < len(tags):
            raise ValueError("a tag stands once in a completion, so name each one once")
        return tags

    @model_validator(mode="after")
    def _one_way(self) -> FormatConfig:
        if bool(self.tags) == (self.pattern is not None):
            raise ValueError("give either `tags` (as [think, answer]) or `pattern` (a regular expression)")
        if self.pattern is not None and (self.text_outside or self.first_tag_in_prompt):
            raise ValueError("text_outside and first_tag_in_prompt speak of `tags`; say it in the pattern")
        return self


class Format:
    """1 where the completion is laid out as asked, else 0; an empty one has no tags and gets 0.

    The format reward of DeepSeek-R1 (arXiv:2501.12948, section 2.2.2), stricter: a tag that stands twice, or out of
    order, or round nothing gets no reward. A completion the pattern is too slow on is an error.
    """

    def __init__(self, config: FormatConfig, parts: Parts) -> None:
        self.config = config
        self._pattern = None if config.pattern is None else TimedPattern(config.pattern, config.time_limit)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [self._score(rollout.completion.text) for rollout in rollouts]

    def _score(self, text: str) -> Score:
        if self._pattern is None:
            return Score(value=float(self._has_tags(text)))
        try:
            return Score(value=float(self._pattern.is_all_of(text)))
        except TimeoutError as error:
            return Score(error=str(error))

    def _has_tags(self, text: str) -> bool:
        if self.config.first_tag_in_prompt:
            text = f"<{self.config.tags[0]}>{text}"
        marks = [mark for tag in self.config.tags for mark in (f"<{tag}>", f"</{tag}>")]
        if any(text.count(mark) != 1 for mark in marks):
            return False
        pieces = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found:  # it stood before the mark that it should follow
                return False
            pieces.append(before)
        inside, outside = pieces[1::2], [*pieces[::2], text]
        return all(piece.strip() for piece in inside) and (
            self.config.text_outside or not any(piece.strip() for piece in outside)
        )
