"""What `python -m benchmarks.soak` makes of what it saw."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.soak import MOST_GROWTH, Looks, files, growth, undeclared


@pytest.mark.parametrize(("leak", "is_flat"), [(0.0, True), (0.005, True), (0.02, False), (0.2, False)])
def test_a_leak_is_told_from_noise(leak: float, is_flat: bool) -> None:
    draws = random.Random(1)
    steps = list(range(1000, 5000, 20))
    peaks = [draws.choice([0, 0, 0, 0, 0, 0, 0, 0, 0, 50_000_000]) for _ in steps]
    memory = [
        int(500e6 * (1 + leak * step / 1000) + draws.gauss(0, 2e6) + peak)
        for step, peak in zip(steps, peaks, strict=True)
    ]
    assert (growth(steps, memory) <= MOST_GROWTH) == is_flat


def test_only_what_is_seen_long_enough_is_judged() -> None:
    looks = Looks("driver", list(range(100)), [10_000_000] * 100, [7] * 100)
    assert looks.after(20) == {
        "process": "driver",
        "MB": 10,
        "memory per 1,000 steps": 0.0,
        "handles": 7,
        "handles per 1,000 steps": 0.0,
    }
    assert looks.after(90) is None


def test_files_beyond_the_declared_are_named(tmp_path: Path) -> None:
    few, run = tmp_path / "few", tmp_path / "run"
    for folder, step in ((few, 50), (run, 4950)):
        (folder / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step}" / "manifest.json").touch()
        (folder / "metrics.jsonl").touch()
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.1").touch()
    assert undeclared(run, files(few)) == []
    (run / "dump-17.bin").touch()
    assert undeclared(run, files(few)) == ["dump-17.bin"]
