"""Calling a function: once, or for many rows at a time, in threads or in one event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from rlhf.config.secrets import masked
from rlhf.errors import RewardError, RunError, UserError
from rlhf.rewards.answers import row_score
from rlhf.types import Score

Event = tuple[int, Score | None]
"""A row that has been begun, or what it is worth."""
Events = SimpleQueue[Event | BaseException]
"""Of calls made elsewhere, with what ended them before all was judged."""
Arguments = Mapping[str, Any]
_ASYNC_AT_ONCE = 32


class RowCalls:
    """How a function is called; async ones all in one event loop, whose clients outlive a call."""

    def __init__(self, function: Callable[..., Any], timeout: float | None, concurrency: int | None) -> None:
        self._function, self._timeout = function, timeout
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose `__call__` is async
        )
        self._at_once = concurrency or (_ASYNC_AT_ONCE if self.is_async else 1)
        self._loop: asyncio.AbstractEventLoop | None = None

    def once(self, arguments: Arguments) -> Any:
        """What the function returns."""
        if self.is_async:
            return self._submitted(self._function(**arguments)).result()
        return self._function(**arguments)

    def stream(self, rows: Sequence[Arguments]) -> Iterator[Event]:
        """Rows as they are begun and as they are judged; one that raises is an error of its own."""
        if self.is_async:
            yield from self._in_loop(rows)
        elif self._at_once == 1:  # on this very thread, for what only works on a main one
            for row, arguments in enumerate(rows):
                yield row, None
                yield row, _attempt(self._function, arguments)
        else:
            yield from self._in_threads(rows)

    def _in_threads(self, rows: Sequence[Arguments]) -> Iterator[Event]:
        events: Events = SimpleQueue()

        def judge(row: int) -> None:
            events.put((row, None))
            try:
                events.put((row, _attempt(self._function, rows[row])))
            except BaseException as error:  # noqa: BLE001 - raised where the events are read
                events.put(error)

        with ThreadPoolExecutor(max_workers=self._at_once, thread_name_prefix="reward") as pool:
            for row in range(len(rows)):
                pool.submit(judge, row)
            yield from _until_all(events, len(rows))

    def _in_loop(self, rows: Sequence[Arguments]) -> Iterator[Event]:
        events: Events = SimpleQueue()

        async def judge_all() -> None:
            free = asyncio.Semaphore(self._at_once)

            async def judge(row: int) -> None:
                async with free:
                    events.put((row, None))
                    events.put((row, await self._awaited(rows[row])))

            try:
                await asyncio.gather(*map(judge, range(len(rows))))
            except BaseException as error:  # noqa: BLE001 - raised where the events are read
                events.put(error)

        self._submitted(judge_all())
        yield from _until_all(events, len(rows))

    async def _awaited(self, arguments: Arguments) -> Score:
        try:
            return row_score(await asyncio.wait_for(self._function(**arguments), self._timeout))
        except TimeoutError as error:
            return Score(error=f"took longer than {self._timeout:g} s") if self._timeout else failed(error)
        except (Exception, SystemExit) as error:
            if ends_the_run(error):
                raise
            return failed(error)

    def _submitted(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="rewards", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def finished(events: Iterator[Event], count: int) -> list[Score]:
    """The scores, in the order of the rows."""
    scores = {row: score for row, score in events if score is not None}
    return [scores[row] for row in range(count)]


def failed(error: BaseException) -> Score:
    """What a row is whose judge raised, or tried to exit: a reward does not end a run of its own accord."""
    own_words = type(error).__module__ == "rlhf.errors"
    text = " ".join(str(error).split())
    words = text if own_words else f"raised {type(error).__name__}{': ' if text else ''}{text}"
    return Score(error=masked(words), details=masked("".join(traceback.format_exception(error))))


def ends_the_run(error: BaseException) -> bool:
    """A dead worker, or a mistake in the recipe, is no failure of the reward that came upon it."""
    return isinstance(error, UserError) or (isinstance(error, RunError) and not isinstance(error, RewardError))


def _attempt(function: Callable[..., Any], arguments: Arguments) -> Score:
    try:
        return row_score(function(**arguments))
    except (Exception, SystemExit) as error:
        if ends_the_run(error):
            raise
        return failed(error)


def _until_all(events: Events, count: int) -> Iterator[Event]:
    left = count
    while left:
        event = events.get()
        if isinstance(event, BaseException):
            raise event
        left -= event[1] is not None
        yield event
