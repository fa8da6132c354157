"""What a save must know of the other processes that run the same algorithm in step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class SavingRanks(Protocol):
    """`rlhf.runtime.live_run.Ranks` is one."""

    @property
    def rank(self) -> int: ...

    @property
    def barrier(self) -> Callable[[], None]: ...

    @property
    def agree(self) -> Callable[[int], int]:
        """The leading rank's number, in every rank."""
        ...


@dataclass(frozen=True)
class Alone:
    """A single process."""

    rank: int = 0
    barrier: Callable[[], None] = lambda: None
    agree: Callable[[int], int] = lambda number: number
