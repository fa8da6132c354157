"""Plans against what training really takes, in fresh processes; all of them with `RLHF_TEST_EVERY_METHOD=1`."""

from __future__ import annotations

import os

import pytest

from benchmarks.planning.__main__ import CASES, Case, measure, planned
from rlhf.planning.memory import memory_of

WITHIN = 0.15
EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))
SHORT = ("wide, full",)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [c for c in CASES if EVERY or c.name in SHORT], ids=lambda case: case.name)
def test_peak_memory_is_as_planned(case: Case) -> None:
    if case.zero is not None:
        pytest.importorskip("deepspeed")
    figures = measure(case)
    assert memory_of(*planned(case)).peak.total == pytest.approx(figures["peak"] - figures["before"], rel=WITHIN)
