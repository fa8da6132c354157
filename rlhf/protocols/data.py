"""Rows in a deterministic order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from rlhf.types import (
    Demonstration,
    LabelledCompletion,
    Prompt,
    Ranking,
    SteppedCompletion,
)


class Dataset(Protocol):
    """Rows in a deterministic order: the same seed gives the same sequence, and `start` skips what was consumed.

    Iterators are endless (each epoch is shuffled anew from the seed); `sizes` tells the rows of each kind in one
    epoch, and a kind that is absent there raises `DataError` naming the kinds there are.
    """

    sizes: Mapping[str, int]
    """Rows of each kind ("texts", "prompts", "demonstrations", "rankings", "labelled", "stepwise") in one epoch."""

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        """Documents for language modelling."""
        ...

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]: ...

    def demonstrations(self, seed: int, start: int = 0) -> Iterator[Demonstration]: ...

    def rankings(self, seed: int, start: int = 0) -> Iterator[Ranking]: ...

    def labelled(self, seed: int, start: int = 0) -> Iterator[LabelledCompletion]:
        """Completions judged one by one."""
        ...

    def stepwise(self, seed: int, start: int = 0) -> Iterator[SteppedCompletion]:
        """Completions judged step by step."""
        ...

    def held_out(self) -> Dataset | None:
        """The rows kept from training; None where none are."""
        ...
