"""How often a judge of pairs agrees with people, on public data of labelled pairs; for benchmarks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf.errors import DataError
from rlhf.protocols import Grader
from rlhf.types import Completion, Prompt, Rollout
from rlhf_judge.pairwise import Pair, PairVerdict, Winner

Compare = Callable[[Sequence[Pair]], list[PairVerdict]]
"""A judge of pairs: `PairwiseJudge.compare`, `by_grader(grader)`, `longer`, or one's own."""

_LABELS: Mapping[int, Winner] = {0: "tie", 1: "first", 2: "second"}
# How the columns of a public set are called; autoj counts from 0 and calls 2 a tie.
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("prompt", "chosen", "rejected"),
    ("input", "output_1", "output_2"),
    ("prompt", "response 1", "response 2"),
    ("instruction", "response1", "response2"),
)
_AUTOJ: Mapping[int, Winner] = {0: "first", 1: "second", 2: "tie"}


@dataclass(frozen=True, kw_only=True)
class LabelledPair:
    """A pair, which of its answers people preferred, and the part of the data it comes from.

    Where several people judged it, `winner` is what most of them said, or a tie.
    """

    pair: Pair
    winner: Winner
    subset: str = ""


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Agreement of a judge with people over pairs people decided (those they call a tie are left out).

    `accuracy` is the share of pairs with the people's winner, the judge's ties counting half; `low` and `high` are its
    95 % interval (Wilson). `errors` are pairs that could not be judged: they are in no other figure.
    """

    accuracy: float
    low: float
    high: float
    pairs: int
    ties: int
    errors: int
    contradicted: float
    """Share of pairs where each order had another winner."""
    shown_first: float
    """How often the answer shown first was preferred: 0.5 without a bias."""


def read_pairs(path: str | Path) -> list[LabelledPair]:
    """Labelled pairs from JSONL: HHH alignment, LLMBar, Auto-J and PandaLM by their columns.

    In HHH the better answer always comes first; a judge that sees both orders is not helped by that.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [_labelled(json.loads(line), f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def pair_agreement(labelled: Sequence[LabelledPair], compare: Compare) -> PairAgreement:
    """How far the judge agrees with the labels."""
    decided = [row for row in labelled if row.winner != "tie"]
    verdicts = compare([row.pair for row in decided])
    judged = [(row, v) for row, v in zip(decided, verdicts, strict=True) if v.error is None]
    if not judged:
        reason = verdicts[0].error if verdicts else "there are none that people decided"
        raise DataError(f"no pair could be judged: {reason}")
    worth = [0.5 if v.winner == "tie" else float(v.winner == row.winner) for row, v in judged]
    accuracy = sum(worth) / len(worth)
    low, high = _wilson(accuracy, len(worth))
    return PairAgreement(
        accuracy=accuracy,
        low=low,
        high=high,
        pairs=len(judged),
        ties=sum(v.winner == "tie" for _, v in judged),
        errors=len(decided) - len(judged),
        contradicted=sum(v.contradicted for _, v in judged) / len(judged),
        shown_first=sum(v.shown_first for _, v in judged) / len(judged),
    )


def by_grader(grader: Grader) -> Compare:
    """Any grader as a judge of pairs: the higher score wins."""

    def compare(pairs: Sequence[Pair]) -> list[PairVerdict]:
        sides: tuple[Literal["first", "second"], ...] = ("first", "second")
        grades = grader.grade([_rollout(pair.conversation, getattr(pair, side)) for pair in pairs for side in sides])
        verdicts = []
        for a, b in zip(grades[::2], grades[1::2], strict=True):
            if a.score is None or b.score is None:
                verdicts.append(PairVerdict(error=a.error or b.error or "the grader gave neither score nor error"))
            else:
                verdicts.append(PairVerdict(winner=_higher(a.score, b.score)))
        return verdicts

    return compare


def longer(pairs: Sequence[Pair]) -> list[PairVerdict]:
    """The baseline that needs no judge: the longer answer wins."""
    return [PairVerdict(winner=_higher(len(pair.first), len(pair.second))) for pair in pairs]


def _higher(first: float, second: float) -> Winner:
    return "tie" if first == second else "first" if first > second else "second"


def _labelled(row: Mapping[str, Any], where: str) -> LabelledPair:
    columns = next((names for names in _COLUMNS if all(name in row for name in names)), None)
    if columns is None:
        known = "; ".join(", ".join(names) for names in _COLUMNS)
        raise DataError(f"{where}: no known columns of pairs among {', '.join(row)}. Known: {known}")
    question, first, second = (str(row[name]) for name in columns)
    if row.get("instruction") and row.get("input"):
        question = f"{question}\n\n{row['input']}"
    pair = Pair(conversation=question, first=first, second=second)
    return LabelledPair(pair=pair, winner=_winner(row, where), subset=str(row.get("subset", row.get("scenario", ""))))


def _winner(row: Mapping[str, Any], where: str) -> Winner:
    if "chosen" in row:
        return "first"
    if "response 1" in row:
        return _AUTOJ[row["label"]]
    votes = [row[name] for name in ("label", "annotator1", "annotator2", "annotator3") if name in row]
    if not votes or any(vote not in _LABELS for vote in votes):
        raise DataError(f"{where}: labels must be 1, 2 or 0 (a tie), given {votes}")
    most = [label for label in _LABELS if votes.count(label) == max(map(votes.count, votes))]
    return _LABELS[most[0]] if len(most) == 1 else "tie"


def _rollout(conversation: str, answer: str) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), text=answer, finish_reason="stop")
    return Rollout(prompt=Prompt(id=conversation, text=conversation), completion=completion)


def _wilson(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return centre - half, centre + half
