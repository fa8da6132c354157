"""metrics.jsonl: one object a step, `{"step", "time", "stage", ...metrics}`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.tracking.step_lines import StepLines, finite, read_step_lines
from rlhf.types import Metrics


class MetricsFile:
    """The sink every run has. `time` is seconds since the start, without the pause before a resume.

    A NaN or infinite figure is written as null and its name listed under `nonfinite`, so that every line stays JSON
    that any reader takes, and the accident stays visible.
    """

    def __init__(
        self, path: Path, stage: str, first_step: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Continue or begin `path` for a run whose next step is `first_step`; lines from there on are removed."""
        self._lines = StepLines(path, first_step)
        self._stage = stage
        self._clock = clock
        spent = float(self._lines.kept[-1].get("time", 0.0)) if self._lines.kept else 0.0
        self._started = clock() - spent

    def log(self, step: int, metrics: Metrics) -> None:
        figures = {name: finite(float(value)) for name, value in metrics.items()}
        row: dict[str, Any] = {"step": step, "time": round(self._clock() - self._started, 3), "stage": self._stage}
        row.update(figures)
        nonfinite = sorted(name for name, value in figures.items() if value is None)
        if nonfinite:
            row["nonfinite"] = nonfinite
        self._lines.append(row)

    def close(self) -> None:
        """Nothing to do: every line is on disk. A tracker has this method."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, without a cut last line. Raises `DataError` on any other broken line."""
    return read_step_lines(path)
