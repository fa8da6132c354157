"""Rows of the table, and figures with intervals that respect that rows of one question belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.evaluation.statistics import Estimate

Floats = NDArray[np.floating[Any]]
Measure = Callable[[Floats, Floats], float]
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contender on one task."""

    what: str
    split: str
    contender: str
    estimate: Estimate
    measure: str = "accuracy"
    goal: str = ""
    made_by: str = ""


def accuracy(wanted: Floats, said: Floats) -> float:
    """Share of rows on the right side of 0.5."""
    return float(((said > 0.5) == (wanted > 0.5)).mean())


def ranked_right(_: Floats, said: Floats) -> float:
    """Share of pairs ranked right, where `said` is the better answer's score less the other's. A tie counts half."""
    return float(((said > 0) + 0.5 * (said == 0)).mean())


def average_precision(wanted: Floats, said: Floats) -> float:
    """Area under the precision-recall curve."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(wanted, said)) if wanted.any() else 0.0


def estimated(
    wanted: Sequence[float] | Floats, said: Sequence[float] | Floats, groups: Sequence[str], measure: Measure = accuracy
) -> Estimate:
    """The figure over all rows and its 95 % percentile interval over resampled groups (seeded)."""
    truth, scores = np.asarray(wanted, np.float64), np.asarray(said, np.float64)
    members = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    random = np.random.default_rng(0)
    figures = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
        figures.append(measure(truth[rows], scores[rows]))
    low, high = np.percentile(figures, [2.5, 97.5])
    return Estimate(value=measure(truth, scores), low=float(low), high=float(high), n=len(truth))


def as_markdown(lines: Sequence[Line]) -> str:
    """The table; a cell that repeats the one above it is left empty."""
    columns = ("agreement on", "split", "contender", "measure", "figure", "95 % interval", "rows", "goal", "made by")
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    above: tuple[str, str] = ("", "")
    for line in lines:
        e = line.estimate
        here = (line.what, line.split)
        what, split, made_by = ("", "", "") if here == above else (*here, f"`{line.made_by}`")
        cells = [
            what, split, line.contender, line.measure, f"{e.value:.3f}", f"[{e.low:.3f}, {e.high:.3f}]", str(e.n),
            line.goal, made_by,
        ]  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
        above = here
    return "\n".join(rows)
