"""metrics.jsonl: one line a step, whole after a kill, without duplicates after a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.errors import DataError
from rlhf.tracking.metrics_file import MetricsFile, read_metrics


class Clock:
    """A clock the test sets."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_writes_step_time_stage_and_figures(tmp_path: Path) -> None:
    clock = Clock()
    sink = MetricsFile(tmp_path / "deep" / "metrics.jsonl", "ppo", clock=clock)
    clock.now += 2.5
    sink.log(1, {"reward/mean": 0.5})
    # Not closed: a line is on disk as soon as it is logged.
    assert read_metrics(tmp_path / "deep" / "metrics.jsonl") == [
        {"step": 1, "time": 2.5, "stage": "ppo", "reward/mean": 0.5}
    ]


def test_nonfinite_figures_become_null_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = MetricsFile(path, "sft")
    sink.log(1, {"policy/loss": float("nan"), "policy/lr": 1e-5, "policy/grad_norm": float("inf")})
    row = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert row["policy/loss"] is None
    assert row["policy/lr"] == 1e-5
    assert row["nonfinite"] == ["policy/grad_norm", "policy/loss"]


def test_resume_drops_the_lines_it_will_write_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    clock = Clock()
    first = MetricsFile(path, "ppo", clock=clock)
    for step in (1, 2, 3, 4):
        clock.now += 10
        first.log(step, {"reward/mean": float(step)})
    # Killed after step 4; the checkpoint is of step 2, and the pause is not the run's time.
    clock.now += 1000
    second = MetricsFile(path, "ppo", first_step=3, clock=clock)
    clock.now += 10
    second.log(3, {"reward/mean": 30.0})
    rows = read_metrics(path)
    assert [(row["step"], row["time"], row["reward/mean"]) for row in rows] == [(1, 10, 1), (2, 20, 2), (3, 30, 30)]


def test_a_cut_last_line_is_left_out_and_overwritten_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time": 1.0, "stage": "a"}\n{"step": 2, "ti')
    assert [row["step"] for row in read_metrics(path)] == [1]
    MetricsFile(path, "a", first_step=2).log(2, {})
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_a_damaged_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nhello\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a JSON object"):
        read_metrics(path)
