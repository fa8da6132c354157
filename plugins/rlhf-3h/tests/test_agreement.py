"""Calibration and intervals against figures worked out by hand."""

from __future__ import annotations

import pytest

from rlhf_3h.agreement import brier_score, expected_calibration_error, wilson


def test_brier_score_by_hand() -> None:
    assert brier_score([1.0, 0.5, 0.0], [1, 0, 1]) == pytest.approx((0 + 0.25 + 1) / 3)


def test_calibration_error_by_hand() -> None:
    # bin 0.8..0.9: said 0.8 twice, happened once of two: gap 0.3; bin 0.1..0.2: said 0.1, did not happen: gap 0.1
    assert expected_calibration_error([0.8, 0.8, 0.1], [1, 0, 0]) == pytest.approx((2 * 0.3 + 0.1) / 3)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    assert expected_calibration_error([1.0, 0.0], [1, 0]) == 0
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1


def test_overconfidence_shows_where_accuracy_does_not() -> None:
    outcomes = [1.0] * 8 + [0.0] * 2
    assert expected_calibration_error([0.8] * 10, outcomes) == pytest.approx(0)
    assert expected_calibration_error([0.99] * 10, outcomes) == pytest.approx(0.19)


@pytest.mark.parametrize("bad", [([], []), ([0.5], [1, 0]), ([1.5], [1]), ([0.5], [0.5])])
def test_what_is_no_probability_or_outcome_is_refused(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match=r"outcomes"):
        brier_score(*bad)


def test_wilson_interval() -> None:
    low, high = wilson(8, 10)  # Newcombe 1998's formula by hand
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 0)
