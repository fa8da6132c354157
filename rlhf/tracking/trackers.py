"""Several trackers behind one: a sink that fails or hangs is named once and dropped, and the run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue

from rlhf.protocols import Tracker
from rlhf.types import Metrics

MOST_WAITING = 1000
"""Steps a tracker may be behind: its service may be away for a while, but memory is not for ever."""
PATIENCE = 20.0
"""Seconds in which, at the end of a stage, all trackers together may write what they have not yet written."""


class Trackers:
    """Hands each step's metrics to every tracker still working. Training never waits for one.

    Each has a thread of its own, in which alone its methods are called, in order.

    Args:
        trackers: by name.
        say: told once, in one line, when a tracker fails; called in the thread that logs.
        patience: seconds `close` waits.
    """

    def __init__(
        self, trackers: Mapping[str, Tracker], say: Callable[[str], None], *, patience: float = PATIENCE
    ) -> None:
        self._sinks = {name: _Sink(name, tracker) for name, tracker in trackers.items()}
        self._say = say
        self._patience = patience

    @property
    def names(self) -> tuple[str, ...]:
        """Those still working, as far as is known."""
        return tuple(self._sinks)

    def log(self, step: int, metrics: Metrics) -> None:
        for name, sink in list(self._sinks.items()):
            # Each gets its own copy: a tracker that edits its dict must not change what the next one logs.
            if sink.failure is None and not sink.give(partial(_log, step, dict(metrics))):
                sink.failure = f"is {MOST_WAITING} steps behind"
            if sink.failure is not None:
                self._drop(name, sink.failure)

    def close(self) -> None:
        """Let all of them finish, within the time there is."""
        deadline = time.monotonic() + self._patience
        for sink in self._sinks.values():
            sink.end()
        for name, sink in list(self._sinks.items()):
            if not sink.has_ended(max(0.0, deadline - time.monotonic())) and sink.failure is None:
                sink.failure = f"did not finish within {self._patience:g} s"
            if sink.failure is not None:
                self._drop(name, sink.failure)
        self._sinks.clear()

    def _drop(self, name: str, why: str) -> None:
        del self._sinks[name]
        self._say(f"tracker {name!r} {why}; dropped, run goes on; metrics.jsonl has every figure.")


def _log(step: int, metrics: Metrics, tracker: Tracker) -> None:
    tracker.log(step, metrics)


class _Sink:
    """One tracker and the thread that talks to it."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.failure: str | None = None
        """What went wrong, once something has."""
        self._tracker = tracker
        self._calls: SimpleQueue[Callable[[Tracker], None] | None] = SimpleQueue()
        # A daemon: nothing can stop a call that hangs, and a process that is done must not wait for it.
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def give(self, call: Callable[[Tracker], None]) -> bool:
        """Have it called in turn; False where too many calls wait already."""
        if self._calls.qsize() >= MOST_WAITING:
            return False
        self._calls.put(call)
        return True

    def end(self) -> None:
        """Close it once all calls are made."""
        self._calls.put(None)

    def has_ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        verb = "log"
        try:
            while (call := self._calls.get()) is not None:
                call(self._tracker)
            verb = "close"
            self._tracker.close()
        except BaseException as error:  # noqa: BLE001 - a sink may fail in any way, and never stops a run
            self.failure = f"failed to {verb} ({type(error).__name__}: {error})"
