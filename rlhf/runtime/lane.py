"""Calls to the rollout engine, one after the other, in the order in which the run makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rlhf.protocols import RolloutEngine
from rlhf.types import Completion, Prompt, Sampling


class Lane:
    """Does what it is asked to in order: at once, or in the background. After a failure it does nothing any more.

    The order alone decides which weights write which sample, so neither timing nor a background changes a sample.
    """

    def __init__(self, *, background: bool) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollout") if background else None
        self._failure: BaseException | None = None

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Its result, or the first failure of this lane."""
        if self._thread is not None:
            return self._thread.submit(self._run, call)
        done: Future[Any] = Future()
        try:
            done.set_result(self._run(call))
        except BaseException as error:
            done.set_exception(error)
            if not isinstance(error, Exception):
                raise
        return done

    def _run(self, call: Callable[[], Any]) -> Any:
        if self._failure is not None:
            raise self._failure
        try:
            return call()
        except BaseException as error:
            self._failure = error
            raise

    def settle(self) -> None:
        """Wait for all that was asked for. Raises the first failure, if there was one."""
        self.submit(lambda: None).result()

    def close(self) -> None:
        """Drop what has not begun; what has is left to end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def streamed(
    engine: RolloutEngine, prompts: Sequence[Prompt], sampling: Sampling
) -> Iterator[list[tuple[int, list[Completion]]]]:
    """What `engine.stream` yields; all at the end where a guest has no such method."""
    stream = getattr(engine, "stream", None)
    if stream is not None:
        yield from stream(prompts, sampling)
    else:
        yield list(enumerate(engine.generate(prompts, sampling)))
