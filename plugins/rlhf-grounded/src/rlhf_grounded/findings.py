"""What came of a completion's claims, the number that is made of it, and the words that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf_grounded.claims import Claim
from rlhf_grounded.evidence import Passage
from rlhf_grounded.verdict import Finding, judge

_SHOWN = 200
"""Characters of a claim and of a passage that a rationale shows."""


@dataclass(frozen=True)
class Found:
    """A claim, what the evidence makes of it, why, and the passage that decided."""

    claim: Claim
    finding: Finding
    reason: str = ""
    passage: Passage | None = None


def found_in(claim: Claim, passages: Sequence[Passage]) -> Found:
    """The rules' verdict over several passages: one that supports decides, then one that contradicts."""
    nearest: Found | None = None
    for passage in passages:
        if passage.finding is not None:
            found = Found(claim, passage.finding, "says the service", passage)
        else:
            verdict = judge(claim, passage.text)
            found = Found(claim, verdict.finding, verdict.reason, passage)
        if found.finding == "supported":
            return found
        if nearest is None or (found.finding == "contradicted" and nearest.finding != "contradicted"):
            nearest = found
    return nearest or Found(claim, "not found", "no passage was found")


def worth(found: Sequence[Found], not_found: float, contradicted: float) -> float:
    """The mean over the claims, of which a supported one is worth 1."""
    values: Mapping[Finding, float] = {"supported": 1.0, "not found": not_found, "contradicted": contradicted}
    return fmean(values[one.finding] for one in found)


def counts(found: Sequence[Found]) -> dict[str, float]:
    """How many claims there are, and the share of each finding."""
    share = {
        name.replace(" ", "_"): sum(one.finding == name for one in found) / len(found)
        for name in ("supported", "contradicted", "not found")
    }
    return {"claims": float(len(found))} | share


def rationale(found: Sequence[Found]) -> str:
    """A line a claim: the finding, the claim, the reason, and the passage with its source."""
    return "\n".join(_line(one) for one in found)


def _line(one: Found) -> str:
    claim = repr(_shown(f"{'no, to: ' if one.claim.denies else ''}{one.claim.text}"))
    reason = f" ({one.reason})" if one.reason else ""
    passage = f" [{one.passage.source}: {_shown(one.passage.text)}]" if one.passage else ""
    return f"{one.finding}: {claim}{reason}{passage}"


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
