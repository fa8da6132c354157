"""Intervals: by hand, by definition, and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf.evaluation.statistics import (
    mean_interval,
    mean_of_groups,
    mean_over_seeds,
    paired_difference,
    proportion_interval,
    ranking_accuracy,
)


def test_wilson_by_hand() -> None:
    # 8 of 10 (Agresti and Coull 1998 give [0.490, 0.943]).
    estimate = proportion_interval(8, 10)
    assert estimate.value == 0.8
    assert (estimate.low, estimate.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


@pytest.mark.parametrize(("successes", "n"), [(3, 20), (0, 15), (15, 15), (1, 1), (400, 1000)])
def test_wilson_ends_solve_their_definition(successes: int, n: int) -> None:
    """Each end p satisfies |share - p| = z * sqrt(p (1 - p) / n)."""
    estimate = proportion_interval(successes, n)
    for end in (estimate.low, estimate.high):
        assert abs(successes / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)
    assert 0 <= estimate.low <= successes / n <= estimate.high <= 1
    assert estimate.low < estimate.high


def test_bootstrap_agrees_with_the_normal_interval_where_that_holds() -> None:
    scores = np.random.default_rng(1).uniform(0.2, 0.9, size=400)
    estimate = mean_interval(list(scores))
    half = 1.96 * scores.std(ddof=1) / math.sqrt(400)
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate.low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    assert estimate.n == 400


def test_bootstrap_of_three_values_by_enumeration() -> None:
    """All 27 draws of (0, 0.3, 0.9): the extreme draws have probability 1/27 > 2.5 %, so they are the ends."""
    estimate = mean_interval([0.0, 0.3, 0.9])
    assert (estimate.low, estimate.high) == (pytest.approx(0.0), pytest.approx(0.9))


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = list(np.random.default_rng(0).random(50))
    assert mean_interval(scores, seed=3) == mean_interval(scores, seed=3)
    assert mean_interval(scores, seed=3) != mean_interval(scores, seed=4)


@pytest.mark.parametrize("binary", [True, False])
def test_intervals_cover_the_truth_about_95_times_in_100(binary: bool) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        scores = rng.binomial(1, 0.7, size=60) if binary else rng.beta(2, 3, size=60)
        estimate = mean_interval([float(score) for score in scores])
        hits += estimate.low <= (0.7 if binary else 0.4) <= estimate.high
    assert 0.90 <= hits / 200 <= 0.99


def test_equal_scores_do_not_claim_certainty() -> None:
    assert mean_interval([1.0] * 20).low < 0.9
    assert mean_interval([1.0] * 20).high == 1.0
    lone = mean_interval([0.4])
    assert (lone.low, lone.high) == (-math.inf, math.inf)


def test_pairing_takes_out_the_difficulty_of_prompts() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.random(100)
    before = list(0.5 * difficulty)
    after = list(0.5 * difficulty + 0.03 + 0.01 * rng.standard_normal(100))
    estimate = paired_difference(before, after)
    assert estimate.low > 0.02
    assert estimate.high < 0.04
    # Two separate means overlap: without pairing the gain would be lost in the spread of prompts.
    assert mean_interval(before).high > mean_interval(after).low
    mirrored = paired_difference(after, before)
    assert mirrored.value == pytest.approx(-estimate.value)


def test_the_mean_of_groups_weighs_groups_and_not_prompts() -> None:
    estimate = mean_of_groups([[0.0, 0.2] * 50, [1.0, 0.8]])
    assert estimate.value == pytest.approx(0.5)
    # The small group alone decides the width: its mean is 0.8, 0.9 or 1.0.
    assert estimate.low == pytest.approx(0.45, abs=0.02)
    assert estimate.high == pytest.approx(0.55, abs=0.02)


def test_ranking_accuracy_counts_a_tie_as_half() -> None:
    estimate = ranking_accuracy([3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 4.0, 2.0])
    assert (estimate.value, estimate.n) == (2.5 / 4, 4)


def test_what_is_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        mean_interval([])
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="no proportion"):
        proportion_interval(3, 2)
    with pytest.raises(ValueError, match="1 chosen scores, 2 rejected"):
        ranking_accuracy([1.0], [1.0, 2.0])


def test_a_mean_over_seeds_has_students_interval() -> None:
    estimate = mean_over_seeds([1.0, 2.0, 3.0])
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.high - 2.0 == pytest.approx(4.303 * 1 / 3**0.5)
    assert math.isinf(mean_over_seeds([0.5]).high)


def test_students_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    estimates = [mean_over_seeds(draw.tolist()) for draw in rng.normal(size=(4000, 3))]
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    assert 0.94 < covered < 0.96
