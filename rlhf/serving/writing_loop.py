"""One thread that writes for all who wait, and the way from it to each of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from rlhf.protocols import Piece, RolloutEngine, Writer, WritingEngine
from rlhf.types import Prompt, Sampling


class Stopped(Exception):
    """The thread is gone; what it was writing is lost."""


class WritingLoop:
    """Steps a `Writer` while anybody waits. Its methods are for the event loop it was made in."""

    def __init__(self, writer: Writer) -> None:
        self.error: str | None = None
        """What ended the thread."""
        self._writer = writer
        self._orders: list[Callable[[], None]] = []
        self._ordered = threading.Condition()
        self._answers: dict[str, asyncio.Queue[Piece | None]] = {}
        self._events = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="writing", daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """Requests that are being written, or will be."""
        return len(self._answers)

    def begin(self, request: str, prompt: Prompt, sampling: Sampling) -> None:
        """Have it written; what comes of it is told by `pieces`."""
        self._answers[request] = asyncio.Queue()
        self._order(lambda: self._writer.add(request, prompt, sampling))

    async def pieces(self, request: str) -> list[Piece]:
        """All that was written since, at least one. Raises `Stopped` where nothing more will come."""
        queue = self._answers[request]
        waiting = [await queue.get()]
        while not queue.empty():
            waiting.append(queue.get_nowait())
        if self.error is not None:
            raise Stopped(self.error)
        return [piece for piece in waiting if piece is not None]

    def end(self, request: str) -> None:
        """Nobody waits for it any more, whether it has ended or not."""
        if self._answers.pop(request, None) is not None:
            self._order(lambda: self._writer.drop(request))

    def _order(self, order: Callable[[], None]) -> None:
        with self._ordered:
            self._orders.append(order)
            self._ordered.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._ordered:
                    while not self._orders and not self._writer.busy:
                        self._ordered.wait()
                    orders, self._orders = self._orders, []
                for order in orders:
                    order()
                if pieces := self._writer.step():
                    self._events.call_soon_threadsafe(self._hand_out, pieces)
        except Exception as error:  # noqa: BLE001 - told to all who wait, and to whoever asks after its health
            self.error = f"{type(error).__name__}: {error}"
            self._events.call_soon_threadsafe(self._give_up)

    def _hand_out(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if piece.request in self._answers:
                self._answers[piece.request].put_nowait(piece)

    def _give_up(self) -> None:
        for queue in self._answers.values():
            queue.put_nowait(None)


class WholeAnswers:
    """A `Writer` for engines that only generate: each request by itself, and told when it is whole."""

    def __init__(self, engine: RolloutEngine) -> None:
        self._engine = engine
        self._waiting: list[tuple[str, Prompt, Sampling]] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def add(self, request: str, prompt: Prompt, sampling: Sampling) -> None:
        self._waiting.append((request, prompt, sampling))

    def drop(self, request: str) -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting[0] != request]

    def step(self) -> list[Piece]:
        if not self._waiting:
            return []
        request, prompt, sampling = self._waiting.pop(0)
        ((completion,),) = self._engine.generate([prompt], sampling)
        return [Piece(request, completion.token_ids, completion.finish_reason)]


def writer_of(engine: RolloutEngine) -> Writer:
    """The engine's own, or one that waits for whole answers."""
    return engine.writer() if isinstance(engine, WritingEngine) else WholeAnswers(engine)
