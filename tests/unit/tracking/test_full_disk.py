"""A disk that is full ends no run: lines wait for room, none is cut, and a log that cannot be written says so later."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlhf.errors import RunError
from rlhf.tracking import step_lines
from rlhf.tracking.metrics_file import MetricsFile, read_metrics
from rlhf.tracking.progress_plain import PlainProgress
from rlhf.tracking.step_lines import StepLines, read_step_lines


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system writes as far as this and refuses the rest, as a disk does that is full in the middle of a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_wait_for_room_and_come_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, "sft")
    metrics.log(1, {"policy/loss": 1.0})
    whole = path.read_bytes()
    with no_file_beyond(len(whole) + 10), caplog.at_level(logging.WARNING):
        metrics.log(2, {"policy/loss": 2.0})
        metrics.log(3, {"policy/loss": 3.0})
        assert path.read_bytes() == whole, "no half line"
    assert caplog.text.count("metrics.jsonl cannot be written ([Errno 27] File too large); its lines wait") == 1
    metrics.log(4, {"policy/loss": 4.0})
    assert [(row["step"], row["policy/loss"]) for row in read_metrics(path)] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_a_disk_that_stays_full_ends_the_run_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_lines, "MOST_WAITING", 3)
    lines = StepLines(tmp_path / "a.jsonl")
    lines.append({"step": 1})
    with no_file_beyond(5):
        lines.append({"step": 2})
        lines.append({"step": 3})
        with pytest.raises(RunError, match=r"a\.jsonl: 3 lines could not be written: \[Errno 27\]"):
            lines.append({"step": 4})
    assert read_step_lines(tmp_path / "a.jsonl") == [{"step": 1}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file of Linux that is always full")
def test_progress_that_nobody_can_read_ends_no_run() -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails too
    progress = PlainProgress(full, interval=0.0)
    progress.start("sft", 2)
    progress.update(1, {"policy/loss": 1.0})
    progress.finish({})
    with pytest.raises(OSError, match="No space left on device"):
        full.close()


def test_progress_says_what_was_lost_once_it_can() -> None:
    class Sometimes:
        def __init__(self) -> None:
            self.text, self.is_full = "", True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            self.text += text
            return len(text)

        def flush(self) -> None: ...

    stream = Sometimes()
    progress = PlainProgress(stream)  # type: ignore[arg-type]
    progress.note("one")
    progress.note("two")
    stream.is_full = False
    progress.note("three")
    progress.note("four")
    assert stream.text == "(2 lines could not be written here)\nthree\nfour\n"
