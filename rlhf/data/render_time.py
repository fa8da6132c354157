"""A limit on how long a model's chat template may run: it is a program, and a stranger's.

Jinja's sandbox keeps a template from Python's objects, not from looping for ever.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOOKS_EVERY_S = 0.5


class RenderTimeout(Exception):
    """Raised inside a template that has run for too long."""


class RenderLimit:
    """Breaks off Python code of one thread that runs longer than `seconds`; one watching thread for all renderings.

    Python delivers the exception between two of its own instructions, so a single long operation is not broken off.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        self._watch: threading.Thread | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Limit what runs inside, in this thread."""
        thread = threading.get_ident()
        with self._lock:
            self._began[thread] = time.monotonic()
            if self._watch is None or not self._watch.is_alive():
                self._watch = threading.Thread(target=self._look, name="render-limit", daemon=True)
                self._watch.start()
        try:
            yield
        finally:
            with self._lock:
                if (
                    self._began.pop(thread, None) is None
                ):  # broken off; where that came too late, it must not come later
                    _raise_in(thread, None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOKS_EVERY_S)
            with self._lock:
                if not self._began:
                    self._watch = None
                    return
                now = time.monotonic()
                for thread in [ident for ident, began in self._began.items() if now - began > self.seconds]:
                    del self._began[thread]
                    _raise_in(thread, RenderTimeout)


def _raise_in(thread: int, error: type[Exception] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
