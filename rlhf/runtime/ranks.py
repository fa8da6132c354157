"""What a run knows of the other processes that run the same algorithm in step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """This process among them (Ray Train); alone elsewhere."""

    rank: int = 0
    barrier: Callable[[], None] = lambda: None
    agree: Callable[[int], int] = lambda number: number
    """The leading rank's number, in every rank."""
