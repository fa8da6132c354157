"""The one event loop of this process, on a thread of its own: judges work whether or not the caller is async."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Closable(Protocol):
    """What holds connections."""

    async def close(self) -> None: ...


class _LoopThread:
    """Starts its thread on first use; a forked child, which inherits no threads, starts its own."""

    def __init__(self) -> None:
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_own(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the loop is this process's own, and not what a forked child has of its parent's."""
        return loop is self._loop

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="rlhf-judge", daemon=True).start()
            return self._loop


_thread = _LoopThread()
os.register_at_fork(after_in_child=_thread._start_afresh)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end on the judges' loop and return what came of it; an interrupted caller cancels the work."""
    future = asyncio.run_coroutine_threadsafe(work, _thread.loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def close(client: Closable, loop: asyncio.AbstractEventLoop) -> None:
    """Close a client's connections on the loop they belong to, without waiting. A forked child leaves them alone."""
    if _thread.is_own(loop):
        asyncio.run_coroutine_threadsafe(client.close(), loop)
