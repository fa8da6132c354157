"""A price on completions that are too long or too short, in tokens."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout


class LengthConfig(PartConfig):
    """Options of `length`: `max_tokens`, `min_tokens` or both."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Longer completions are worth -1: L_max of DAPO, where `buffer` is L_cache."""
    min_tokens: int | None = Field(default=None, ge=1)
    """Shorter completions are worth -1."""
    buffer: int = Field(default=0, ge=0)
    """Tokens inside the range over which the price rises from 0 to -1, at either end; 0: at once."""

    @model_validator(mode="after")
    def _leaves_room(self) -> LengthConfig:
        if self.max_tokens is None and self.min_tokens is None:
            raise ValueError("give `max_tokens`, `min_tokens` or both")
        shortest = (self.min_tokens + self.buffer) if self.min_tokens is not None else 0
        longest = (self.max_tokens - self.buffer) if self.max_tokens is not None else shortest
        if shortest > longest:
            raise ValueError(f"no length is free: the price ends at {shortest} tokens and begins again at {longest}")
        return self


class Length:
    """0 inside the range, -1 outside, and in the `buffer` before an end a straight line between them.

    Soft over-long punishment of DAPO (Yu et al. 2025, arXiv:2503.14476, equation 13), and its mirror image for short
    ones. Tokens are the policy's, with the one that ended its turn, whatever script they spell; an empty completion has
    one of those, or none.
    """

    def __init__(self, config: LengthConfig, parts: Parts) -> None:
        self.config = config

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        return [self._worth(len(rollout.completion.token_ids)) for rollout in rollouts]

    def _worth(self, num_tokens: int) -> float:
        longest, shortest = self.config.max_tokens, self.config.min_tokens
        room = [
            *([longest - num_tokens] if longest is not None else []),
            *([num_tokens - shortest] if shortest is not None else []),
        ]
        left = min(room)  # tokens to the nearer end
        if left < 0:
            return -1.0
        return min(0.0, left / self.config.buffer - 1) if self.config.buffer else 0.0
