"""Waiting: exponential, fully jittered, bounded, and as the server asks."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from rlhf_judge.backoff import parse_retry_after, pause


@pytest.mark.parametrize(("attempt", "most"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (60, 30.0)])
def test_full_jitter_lies_between_nothing_and_a_bound_that_doubles(attempt, most):
    drawn = [pause(attempt, None, random.Random(seed)) for seed in range(2000)]
    assert 0 <= min(drawn) < 0.01 * most
    assert 0.99 * most < max(drawn) <= most
    assert sum(drawn) / len(drawn) == pytest.approx(most / 2, rel=0.05)


def test_what_the_server_asks_is_never_undercut_and_spread_a_little():
    drawn = {pause(0, 7.0, random.Random(seed)) for seed in range(100)}
    assert len(drawn) == 100
    assert min(drawn) >= 7.0
    assert max(drawn) <= 7.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 0.5 ", 0.5),
        ("-3", None),
        ("soon", None),
        ("٣", None),
        ("Sun, 22 Nov 2026 12:00:10 GMT", 10.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert parse_retry_after(header, datetime(2026, 11, 22, 12, tzinfo=UTC)) == seconds
