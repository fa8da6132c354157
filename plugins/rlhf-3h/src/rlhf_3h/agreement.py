"""How well a grader's probabilities agree with people: accuracy with an interval, and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

_Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927). Rows that share a question are not independent: it is then too narrow."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials is no share")
    share, scale = successes / n, 1 / (1 + _Z**2 / n)
    centre = scale * (share + _Z**2 / (2 * n))
    half = scale * _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def brier_score(probabilities: Sequence[float], outcomes: Sequence[float]) -> float:
    """Mean squared distance of a probability from what happened, 0 or 1 (Brier 1950). 0.25 for always saying 0.5."""
    _check(probabilities, outcomes)
    return sum((p - o) ** 2 for p, o in zip(probabilities, outcomes, strict=True)) / len(outcomes)


def expected_calibration_error(probabilities: Sequence[float], outcomes: Sequence[float], bins: int = 10) -> float:
    """Mean gap between what was said and what happened, over bins of equal width (Naeini et al. 2015).

    Each bin weighs as many answers as fall into it; a probability of 1 belongs to the last one. With few answers a bin
    the figure is above 0 even for a perfect forecaster.
    """
    _check(probabilities, outcomes)
    if bins < 1:
        raise ValueError(f"{bins} bins")
    said, happened = [0.0] * bins, [0.0] * bins
    for probability, outcome in zip(probabilities, outcomes, strict=True):
        place = min(bins - 1, int(probability * bins))
        said[place] += probability
        happened[place] += outcome
    return sum(abs(s - h) for s, h in zip(said, happened, strict=True)) / len(outcomes)


def _check(probabilities: Sequence[float], outcomes: Sequence[float]) -> None:
    if not outcomes or len(probabilities) != len(outcomes):
        raise ValueError(f"{len(probabilities)} probabilities, {len(outcomes)} outcomes")
    if any(not 0 <= p <= 1 for p in probabilities) or any(o not in (0, 1) for o in outcomes):
        raise ValueError("probabilities lie in 0..1, outcomes are 0 or 1")
