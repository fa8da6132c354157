"""What evidence is, and what finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlhf.types import Rollout
from rlhf_grounded.claims import Claim
from rlhf_grounded.verdict import Finding


@dataclass(frozen=True)
class Passage:
    """A piece of evidence and where it stands; `finding` where whoever gave it has judged the claim already."""

    text: str
    source: str
    finding: Finding | None = None


class EvidenceError(Exception):
    """Evidence could not be had for a row, which therefore cannot be judged; the message says why."""


@dataclass(frozen=True)
class Asked:
    """A claim, and the rollout it was made in."""

    claim: Claim
    rollout: Rollout


class Source(Protocol):
    """Finds evidence. Claims are independent of one another; what fails, fails for its own claim."""

    def find(self, asked: Sequence[Asked]) -> list[list[Passage] | EvidenceError]:
        """For each claim, in order, its passages, best first, or why they could not be had."""
        ...
