"""Means, proportions and differences with 95 % intervals.

The prompts are the sample: an interval says how far the figure would move with other prompts of the same kind. It
says nothing of other training seeds, which `rlhf compare` is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom  # fmt: skip
_RESAMPLES = 10_000
_CHUNK = 1_000  # resamples drawn at a time, which bounds memory at 8 kB a prompt


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure, its 95 % interval, and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(scores: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of one score a prompt.

    Percentile bootstrap over prompts (Efron 1979), or Wilson's interval where every score is 0 or 1: there it is
    more accurate, and where all are equal a bootstrap would claim to be certain. A lone score that is neither has an
    endless interval. Raises `ValueError` on an empty sequence.
    """
    if not scores:
        raise ValueError("a mean needs at least one score")
    if all(score in (0, 1) for score in scores):
        return proportion_interval(sum(scores), len(scores))
    return mean_of_groups([scores], seed=seed)


def proportion_interval(successes: float, n: int) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927); half successes stand for ties."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials is no proportion")
    share = successes / n
    scale = 1 / (1 + _Z**2 / n)
    centre = scale * (share + _Z**2 / (2 * n))
    half = scale * _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Rounding may leave the ends a hair inside 0 and 1, where the formula is exact.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(value=share, low=low, high=high, n=n)


def ranking_accuracy(chosen: Sequence[float], rejected: Sequence[float]) -> Estimate:
    """How often the chosen completion of a pair has the higher score; a tie is a coin flip and counts half."""
    if len(chosen) != len(rejected):
        raise ValueError(f"{len(chosen)} chosen scores, {len(rejected)} rejected ones")
    wins = sum((c > r) + 0.5 * (c == r) for c, r in zip(chosen, rejected, strict=True))
    return proportion_interval(wins, len(chosen))


def paired_difference(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of `after - before`, prompt by prompt, bootstrapped over prompts.

    Pairing takes out what makes one prompt harder than another, so the interval is far narrower than that of two
    separate means. Where every difference is equal the interval has no width: look at the two means' own.
    """
    return mean_of_groups([_differences(before, after)], seed=seed)


def mean_of_groups(groups: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """Mean of the groups' means (the three axes), each group resampled by itself: a stratified bootstrap."""
    if not groups or not all(groups):
        raise ValueError("a mean of groups needs at least one score in each")
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    rng = np.random.default_rng(seed)
    means = np.mean([_bootstrap_means(group, rng) for group in values], axis=0)
    value = float(np.mean([group.mean() for group in values]))
    n = sum(len(group) for group in values)
    if any(len(group) == 1 for group in values):
        return Estimate(value=value, low=-math.inf, high=math.inf, n=n)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of one figure a training seed, with Student's t interval (Student 1908); endless for a lone seed.

    A bootstrap of three values only ever says "from the lowest to the highest", which covers too little.
    """
    if not values:
        raise ValueError("a mean needs at least one seed")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(value=mean, low=-math.inf, high=math.inf, n=1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = (_T[n - 2] if n - 2 < len(_T) else _Z) * math.sqrt(variance / n)
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def _differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    if len(before) != len(after):
        raise ValueError(f"{len(before)} scores before, {len(after)} after: they must be of the same prompts")
    return [b - a for a, b in zip(before, after, strict=True)]


def _bootstrap_means(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of `_RESAMPLES` draws of as many scores, with replacement."""
    n = len(scores)
    draws = (rng.integers(0, n, size=(_CHUNK, n)) for _ in range(_RESAMPLES // _CHUNK))
    return np.concatenate([scores[rows].mean(axis=1) for rows in draws])
