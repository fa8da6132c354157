"""Texts that end a sample: looked for while it is written, one token at a time, as vLLM does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

from rlhf.errors import ConfigError


class StopWatch:
    """Reads one sample as it is written. `ended_at` is its number of tokens once a stop string is complete."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_ids: Sequence[int]) -> None:
        self._tokenizer = _backend(tokenizer)
        self._stop = stop
        self._stream = DecodeStream(ids=list(prompt_ids), skip_special_tokens=True)
        self._num_tokens = 0
        self.ended_at: int | None = None
        self.text = ""
        """What was written; once it ended, what stands before the stop string."""

    def read(self, token: int) -> bool:
        """Take the next token; True from the one on that completes a stop string."""
        if self.ended_at is not None:
            return True
        self._num_tokens += 1
        new = self._decoded(token)
        self.text += new
        found = self._first_stop(len(new)) if new else None
        if found is None:
            return False
        self.ended_at, self.text = self._num_tokens, self.text[:found]
        return True

    def _first_stop(self, num_new: int) -> int | None:
        """Where the stop string begins that the last `num_new` characters complete first."""
        found = [(at + len(s), at) for s in self._stop if (at := self.text.find(s, 1 - num_new - len(s))) >= 0]
        return min(found)[1] if found else None

    def _decoded(self, token: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception as error:  # the library raises nothing narrower
            if "Invalid prefix" not in str(error):
                raise
            # Bytes that are no text, as an untrained policy writes them, break the stream; a new one goes on from here.
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""


def text_before_stop(kept: str, decoded: str) -> str:
    """`kept`, the streamed text before a stop string, as `decoded`, the whole sample on its own, would begin.

    Decoding from the first token on leaves out a space that parts it from the prompt; a stream keeps it.
    """
    return kept if decoded.startswith(" ") else kept.removeprefix(" ")


def require_stop_strings(tokenizer: Any, stop: Sequence[str]) -> None:
    """Raises `ConfigError` where stop strings are asked for and the tokenizer cannot find them."""
    if stop:
        _backend(tokenizer)


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError("rollout.stop: stop strings need a fast tokenizer (tokenizer.json); this model has none")
    return backend
