"""A service that is away is not asked again and again: after some failures in a row, not at all for a while.

Michael T. Nygard, "Release It!" (2007), calls this a circuit breaker. Without it, a batch of requests to a server that
hangs takes its time-out once for each request and attempt, and a run stands still for an hour before it says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MOST_FAILURES = 3
"""Requests in a row, each with all its attempts."""
REST = 30.0
"""Seconds without a request; then one may try, alone and once."""


class Circuit:
    """Counts requests that failed by what passes; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._asked_again_at = 0.0
        self._why = ""

    def attempts(self, wanted: int) -> int:
        """How often a request may be made now: as `wanted`; once, to see whether the service is back; or not (0)."""
        with self._lock:
            if self._failures < MOST_FAILURES:
                return wanted
            if self._clock() < self._asked_again_at:
                return 0
            self._asked_again_at = self._clock() + REST  # the others go on waiting for what this one finds
            return 1

    @property
    def why(self) -> str:
        """The last failure, and when there will be another request."""
        seconds = max(0.0, self._asked_again_at - self._clock())
        return f"is not asked for {seconds:.0f} s more, for {self._failures} requests in a row failed: it {self._why}"

    def answered(self) -> None:
        """It answered, be it to say no."""
        with self._lock:
            self._failures = 0

    def failed(self, why: str) -> None:
        """It did not answer, or is too busy to."""
        with self._lock:
            self._failures += 1
            self._why = why
            self._asked_again_at = self._clock() + REST
