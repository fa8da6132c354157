"""What judging has cost so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counts of requests and tokens. `cost` is in the currency of the prices; None where no prices are known.

    Tokens are those the endpoint reports; one that reports none adds none.
    """

    requests: int = 0
    """Sent, retries included."""
    retries: int = 0
    """Sent again after a failure of the endpoint."""
    unreadable: int = 0
    """Answers without a verdict that could be read."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        counts = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "cost"}
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(**counts, cost=sum(known) if known else None)

    def parts(self) -> dict[str, float]:
        """What is logged beside a score."""
        parts = {"prompt_tokens": float(self.prompt_tokens), "completion_tokens": float(self.completion_tokens)}
        return parts if self.cost is None else parts | {"cost": self.cost}


def total(usages: Iterable[Usage]) -> Usage:
    """The sum."""
    return sum(usages, Usage())
