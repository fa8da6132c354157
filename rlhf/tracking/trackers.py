"""Several trackers behind one: a sink that fails is named once and dropped, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rlhf.errors import Interrupted
from rlhf.protocols import Tracker
from rlhf.types import Metrics


class Trackers:
    """Hands each step's metrics to every tracker still working.

    Args:
        trackers: by name, in the order they are called.
        say: told once, in one line, when a tracker fails.
    """

    def __init__(self, trackers: Mapping[str, Tracker], say: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._say = say

    @property
    def names(self) -> tuple[str, ...]:
        """Those still working."""
        return tuple(self._trackers)

    def log(self, step: int, metrics: Metrics) -> None:
        # Each gets its own copy: a tracker that edits its dict must not change what the next one logs.
        self._each("log", lambda tracker: tracker.log(step, dict(metrics)))

    def close(self) -> None:
        self._each("close", lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, verb: str, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Interrupted:
                raise  # a signal that happened to arrive here is no fault of the tracker
            except Exception as error:  # noqa: BLE001 - a sink may fail in any way, and never stops a run
                del self._trackers[name]
                self._say(f"tracker {name!r} failed to {verb} ({type(error).__name__}: {error}); dropped, run goes on.")
