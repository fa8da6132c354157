"""Progress as plain lines: what a log file, a pipe and `ray job logs` get."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rlhf.config.secrets import masked
from rlhf.tracking.key_metrics import key_metrics
from rlhf.tracking.pace import Pace, duration_text, figure_text, rate_text
from rlhf.types import Metrics


class PlainProgress:
    """The first step, then at most one line every `interval` seconds, and the last step."""

    def __init__(self, stream: TextIO, *, interval: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._interval = interval
        self._clock = clock
        self._stage = ""
        self._pace: Pace | None = None
        self._last_line: float | None = None
        self._lost = 0

    def start(self, stage: str, total_steps: int, resumed_from: int = 0) -> None:
        self._stage = stage
        self._pace = Pace(total_steps, resumed_from, clock=self._clock)
        self._last_line = None
        self._say(f"{total_steps} steps" + (f", resumed after step {resumed_from}" if resumed_from else ""))

    def update(self, step: int, metrics: Metrics) -> None:
        if self._pace is None:
            raise RuntimeError("update() before start()")
        self._pace.tick(step)
        now = self._clock()
        due = self._last_line is None or now - self._last_line >= self._interval
        if due or step >= self._pace.total_steps:
            self._last_line = now
            self._say(progress_line(self._pace, metrics))

    def note(self, text: str) -> None:
        self._say(masked(text))

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        if self._pace is not None:
            self._say(closing_line(self._pace, summary))
        self._stage, self._pace = "", None

    def _say(self, text: str) -> None:
        lead = f"[{self._stage}] " if self._stage else ""
        before = f"({self._lost} lines could not be written here)\n" if self._lost else ""
        try:
            print(f"{before}{lead}{text}", file=self._stream, flush=True)
        except OSError:  # a full disk, or a reader that left: no reason to end a run; metrics.jsonl has every figure
            self._lost += 1
        else:
            self._lost = 0


def progress_line(pace: Pace, metrics: Metrics) -> str:
    """`34/120  3.2 steps/s  27 s left  reward/mean 0.61`: full metric names, so that a log can be searched."""
    left = pace.seconds_left
    parts = [
        f"{pace.step}/{pace.total_steps}",
        rate_text(pace.steps_per_second),
        "" if left is None else f"{duration_text(left)} left",
        *(f"{name} {figure_text(value)}" for name, value in key_metrics(metrics).items()),
    ]
    return "  ".join(part for part in parts if part)


def closing_line(pace: Pace, summary: Mapping[str, Any] | None) -> str:
    """How a stage ended, with the numbers among its final figures."""
    if summary is None:
        return f"stopped after step {pace.step} of {pace.total_steps}, {duration_text(pace.seconds)}"
    numbers = {name: float(value) for name, value in summary.items() if isinstance(value, float | int)}
    figures = [f"{name} {figure_text(value)}" for name, value in key_metrics(numbers).items()]
    return "  ".join([f"done in {duration_text(pace.seconds)}", *figures])
