"""Where passages come from: the protocol, and the simplest source, a column of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


class Column:
    """Evidence in the row: a text, or a list of texts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, asked: Sequence[Asked]) -> list[list[Passage] | EvidenceError]:
        return [self._passages(one.rollout) for one in asked]

    def _passages(self, rollout: Rollout) -> list[Passage] | EvidenceError:
        value = rollout.prompt.reference if self.name == "reference" else self._of(rollout.prompt.metadata)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            given = "nothing" if value is None else type(value).__name__
            return EvidenceError(f"column {self.name!r} must hold a text or a list of texts, given {given}")
        found = [Passage(text, _label(self.name, number, len(texts))) for number, text in enumerate(texts)]
        return [passage for passage in found if passage.text.strip()] or EvidenceError(f"column {self.name!r} is empty")

    def _of(self, metadata: Mapping[str, Any]) -> Any:
        return metadata.get(self.name)


def _label(column: str, number: int, count: int) -> str:
    return f"column {column}" if count == 1 else f"column {column}[{number}]"
