"""A price on saying the same again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout


class RepetitionConfig(PartConfig):
    """Options of `repetition`."""

    n: int = Field(default=4, ge=1)
    """Length of the runs that are compared."""
    unit: Literal["tokens", "words"] = "tokens"
    """The policy's tokens, or words parted by white space, in which case is ignored. Chinese or Thai has no such
    words: use tokens.
    """


class Repetition:
    """Less the share of runs of `n` tokens that stood before in the completion: 0 where none did, towards -1.

    1 - distinct n-grams / n-grams, which is seq-rep-n of Welleck et al. (2019, arXiv:1908.04319), as the penalty that
    Yeo et al. (2025, arXiv:2502.03373) train with. A completion too short for one run, as an empty one, is worth 0.
    """

    def __init__(self, config: RepetitionConfig, parts: Parts) -> None:
        self.config = config

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        return [self._worth(rollout) for rollout in rollouts]

    def _worth(self, rollout: Rollout) -> float:
        said: Sequence[int | str] = rollout.completion.token_ids
        if self.config.unit == "words":
            said = rollout.completion.text.casefold().split()
        runs = [tuple(said[start : start + self.config.n]) for start in range(len(said) - self.config.n + 1)]
        return len(set(runs)) / len(runs) - 1 if runs else 0.0
