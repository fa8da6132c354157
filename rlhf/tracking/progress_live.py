"""Progress as one live line a stage, drawn with rich, in a terminal or a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlhf.config.secrets import masked
from rlhf.tracking.key_metrics import key_metrics
from rlhf.tracking.pace import Pace, duration_text, figure_text, rate_text
from rlhf.tracking.progress_plain import closing_line
from rlhf.types import Metrics


class LiveProgress:
    """A bar with rate and time left, the stage's key figures below it; a finished stage leaves one line behind."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` None lets rich find the notebook's cell. `console` replaces both."""
        self._console = console or Console(file=stream)
        self._clock = clock
        self._stage = ""
        self._pace: Pace | None = None
        self._metrics: Metrics = {}
        self._live: Live | None = None

    def start(self, stage: str, total_steps: int, resumed_from: int = 0) -> None:
        self._stage = stage
        self._pace = Pace(total_steps, resumed_from, clock=self._clock)
        self._metrics = {}
        if resumed_from:
            self.note(f"{stage}: resumed after step {resumed_from}")
        self._live = Live(get_renderable=self._view, console=self._console, transient=True)
        self._live.start(refresh=True)

    def update(self, step: int, metrics: Metrics) -> None:
        if self._pace is None:
            raise RuntimeError("update() before start()")
        self._pace.tick(step)
        self._metrics = dict(metrics)

    def note(self, text: str) -> None:
        # Text, not a string: what a plugin says may hold brackets, which rich would read as markup.
        self._console.print(Text(masked(text), style="dim"))

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        if self._live is None or self._pace is None:
            return
        self._live.stop()
        mark = Text("✓ ", style="green") if summary is not None else Text("■ ", style="yellow")
        self._console.print(
            mark, Text(self._stage, style="bold"), Text(" " + closing_line(self._pace, summary)), sep=""
        )
        self._live, self._pace = None, None

    def _view(self) -> Group:
        pace = self._pace
        if pace is None:
            return Group()
        bar = ProgressBar(total=max(1, pace.total_steps), completed=pace.step, width=24)
        line = Table.grid(padding=(0, 2))
        line.add_row(Text(self._stage, style="bold"), bar, f"{pace.step}/{pace.total_steps}", self._times(pace))
        figures = Text("  ")
        for name, value in key_metrics(self._metrics).items():
            figures.append(f"{name} ", style="dim").append(f"{figure_text(value)}   ")
        return Group(line, figures)

    def _times(self, pace: Pace) -> Text:
        """Rate and time left; before the first step has ended, how long it has taken so far."""
        left = pace.seconds_left
        if left is None:
            return Text(duration_text(pace.seconds), style="dim")
        return Text(f"{rate_text(pace.steps_per_second)}  {duration_text(left)} left", style="dim")
