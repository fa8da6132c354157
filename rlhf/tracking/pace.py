"""How fast a stage goes, how long it will take, and how such figures are written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW = 20  # steps the rate is measured over: long enough to be steady, short enough to follow a change


class Pace:
    """Rate and time left of a stage of `total_steps`, of which `done` were made before this process."""

    def __init__(self, total_steps: int, done: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total_steps = total_steps
        self.step = done
        self._clock = clock
        self.started = clock()
        # From the first step's end on: what lies before it is mostly workers starting, which says nothing of the rest.
        self._ticks: deque[tuple[int, float]] = deque(maxlen=_WINDOW + 1)

    def tick(self, step: int) -> None:
        """Step `step` has just ended; steps count from 1."""
        self.step = step
        self._ticks.append((step, self._clock()))

    @property
    def seconds(self) -> float:
        """Since this process began the stage."""
        return self._clock() - self.started

    @property
    def steps_per_second(self) -> float | None:
        """Over the last steps; None before the second."""
        if len(self._ticks) < 2:
            return None
        (first_step, first_time), (last_step, last_time) = self._ticks[0], self._ticks[-1]
        if last_step <= first_step or last_time <= first_time:
            return None
        return (last_step - first_step) / (last_time - first_time)

    @property
    def seconds_left(self) -> float | None:
        rate = self.steps_per_second
        return None if rate is None else max(0, self.total_steps - self.step) / rate


def rate_text(steps_per_second: float | None) -> str:
    """`3.2 steps/s`, or `4.1 s/step` where that is the larger number."""
    if steps_per_second is None:
        return ""
    if steps_per_second >= 1:
        return f"{steps_per_second:.1f} steps/s"
    return f"{1 / steps_per_second:.1f} s/step"


def duration_text(seconds: float) -> str:
    """`48 s`, `3:20`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def figure_text(value: float) -> str:
    """Three significant digits, without an exponent where the number is of everyday size."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"
