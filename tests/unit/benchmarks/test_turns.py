"""A contender takes a step when it is told to, and its end is noticed, whatever the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.throughput.turns import ROOT, Contender, ContenderFailed, processes_below

Start = Callable[..., Contender]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Contender] = []

    def begin(**task: Any) -> Contender:
        command = ["tests.unit.benchmarks.trivial_contender", json.dumps(task)]
        started.append(Contender("trivial", command, tmp_path / "log", {"PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield begin
    for contender in started:
        contender.stop()


def test_a_step_for_each_turn_and_none_between(start: Start) -> None:
    contender = start(seconds=0.05)
    contender.wait_ready(20)
    time.sleep(0.2)
    turns = [contender.step(20) for _ in range(2)]
    assert [turn.figures["metrics"]["time/generate"] for turn in turns] == [3.0, 4.0]
    assert all(0.05 <= turn.seconds < 0.2 for turn in turns)
    assert turns[0].peak_bytes > 1e6


def test_one_that_waits_costs_nothing(start: Start) -> None:
    contender = start()
    contender.wait_ready(20)
    before = contender.cpu_seconds()
    time.sleep(0.3)
    assert contender.cpu_seconds() - before < 0.05


def test_one_that_dies_leaves_its_last_words(start: Start) -> None:
    contender = start(dies_at=2)
    contender.wait_ready(20)
    contender.step(20)
    with pytest.raises(ContenderFailed, match="died: the model fell over"):
        contender.step(20)
    with pytest.raises(ContenderFailed, match="died: the model fell over"):
        contender.step(20)


def test_one_that_hangs_is_given_up(start: Start) -> None:
    contender = start(hangs_at=1)
    contender.wait_ready(20)
    with pytest.raises(ContenderFailed, match=r"did not answer within 0\.3 s"):
        contender.step(0.3)
    contender.kill()


def test_one_that_cannot_says_why(start: Start) -> None:
    with pytest.raises(ContenderFailed, match=r"^not installed$"):
        start(cannot="not installed").wait_ready(20)


def test_its_processes_end_with_it(start: Start) -> None:
    contender = start(child=True)
    contender.wait_ready(20)
    deadline = time.monotonic() + 20
    while not (children := [pid for pid in processes_below(os.getpid()) if b"sleep(60)" in command_of(pid)]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = children
    contender.kill()
    while command_of(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not command_of(child)


def command_of(pid: int) -> bytes:
    """Empty once the process is gone, or only waits to be buried."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_bytes() if path.exists() else b""
