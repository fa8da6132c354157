"""Tokens as text that can be told while it is being written: nothing that a stop string might yet take back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf.engines.stop_strings import StopWatch


class AnswerText:
    """The text of one answer, in pieces. What they join to is what decoding all tokens at once gives."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._watch = StopWatch(tokenizer, self._stop, ())  # without the prompt, as a sample is decoded on its own
        self._tokens: list[int] = []
        self._told = ""

    @property
    def ended(self) -> bool:
        """Whether a stop string is complete; tokens after it are not read."""
        return self._watch.ended_at is not None

    def read(self, tokens: Sequence[int]) -> str:
        """What can be told since the last call."""
        for token in tokens:
            if self.ended:
                break
            self._tokens.append(token)
            self._watch.read(token)
        text = self._watch.text
        return self._tell(text if self.ended else text[: len(text) - self._may_be_a_stop(text)])

    def rest(self) -> str:
        """What is left to tell at the end."""
        if self.ended:
            return self._tell(self._watch.text)
        return self._tell(str(self._tokenizer.decode(self._tokens, skip_special_tokens=True)))

    def _tell(self, text: str) -> str:
        new = text[len(self._told) :] if text.startswith(self._told) else ""
        self._told += new
        return new

    def _may_be_a_stop(self, text: str) -> int:
        """How many of the last characters could be the beginning of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        return next(
            (n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in self._stop)), 0
        )
