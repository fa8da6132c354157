"""Signals that ask a run to stop: it saves and leaves, within the step where that loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what most schedulers send before they take a machine away; and what Slurm sends where it is asked to."""


class StepDropped(BaseException):
    """A signal came where leaving at once loses nothing. Raised in the main thread, by the handler."""


class Interruption:
    """Signals as a flag that the end of each step looks at; a second signal leaves at once, unsaved."""

    _current: Interruption | None = None

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 130
        self._droppable = 0
        self._saves_soon = False

    @classmethod
    def current(cls) -> Interruption:
        """The one that catches signals now, or one that is never set."""
        return cls._current or cls()

    @contextmanager
    def drops_this(self) -> Iterator[None]:
        """Inside, a signal raises `StepDropped`: generation may take long, and has changed nothing that is saved."""
        self._droppable += 1
        try:
            if self.requested:
                raise StepDropped
            yield
        finally:
            self._droppable -= 1

    def save_soon(self) -> None:
        """Have the run save after the step it is at, and go on. Any thread may ask."""
        self._saves_soon = True

    def take_save(self) -> bool:
        """Whether that was asked for since the last time."""
        asked, self._saves_soon = self._saves_soon, False
        return asked

    def request(self, number: int) -> None:
        """As if this signal had come."""
        self.requested, self.exit_code = True, 128 + number

    @classmethod
    @contextmanager
    def caught(cls, note: Callable[[str], None]) -> Iterator[Interruption]:
        """Catch the signals inside; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield cls()
            return
        interruption = cls()

        def on_signal(number: int, _: FrameType | None) -> None:
            if interruption.requested:
                raise KeyboardInterrupt
            interruption.request(number)
            note("stopping, with a checkpoint; again to leave at once")
            if interruption._droppable:
                raise StepDropped

        previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
        cls._current = interruption
        try:
            yield interruption
        finally:
            cls._current = None
            for number, handler in previous.items():
                signal.signal(number, handler)
