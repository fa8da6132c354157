"""From a training worker to the driver and back: each step is reported, and the answer says whether to go on.

Files, trackers, progress and hooks are the driver's, wherever the algorithm runs. The post waits for its answer, so a
run on Ray Train stops at the same step as one in a single process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import ray

from rlhf.runtime.journal import Directive, Journal
from rlhf.types import Metrics, Rollout

Kind = Literal["step", "checkpoint", "note", "outcome", "interrupted", "failed"]
Event = tuple[Kind, tuple[Any, ...]]

_POLL_SECONDS = 1.0
BEAT_SECONDS = 2.0


@ray.remote(num_cpus=0)
class Mailbox:
    """Between the leading worker and the driver."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[tuple[Event, asyncio.Future[Directive]]] = asyncio.Queue()
        self._unanswered: asyncio.Future[Directive] | None = None
        self._ranks: dict[int, Any] = {}
        self._seen: dict[int, float] = {}

    async def beat(self, rank: int, worker: Any = None) -> None:
        """Called by a thread of every rank, now and then: its process is alive. The first time it says who it is."""
        if worker is not None:
            self._ranks[rank] = worker
        self._seen[rank] = time.monotonic()

    async def ranks(self) -> dict[int, tuple[Any, float]]:
        """Actors by rank, each with the seconds since it was heard of."""
        now = time.monotonic()
        return {rank: (worker, now - self._seen[rank]) for rank, worker in self._ranks.items()}

    async def post(self, event: Event) -> Directive:
        """Called by the worker; returns the driver's answer."""
        answer: asyncio.Future[Directive] = asyncio.get_running_loop().create_future()
        await self._events.put((event, answer))
        return await answer

    async def take(self) -> Event | None:
        """Called by the driver; the next event, or None after a while without one."""
        try:
            event, self._unanswered = await asyncio.wait_for(self._events.get(), _POLL_SECONDS)
        except TimeoutError:
            return None
        return event

    async def answer(self, directive: Directive) -> None:
        """Called by the driver for the event it took last."""
        assert self._unanswered is not None
        self._unanswered.set_result(directive)


def keep_beating(mailbox: Any, rank: int) -> None:
    """Tell the driver about this process until it ends, from a thread of its own."""

    def beat() -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            mailbox.beat.remote(rank)

    ray.get(mailbox.beat.remote(rank, ray.get_runtime_context().current_actor))
    threading.Thread(target=beat, daemon=True, name="heartbeat").start()


class PostedJournal:
    """The journal a training worker writes to."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def post(self, kind: Kind, *content: Any) -> Directive:
        """Send an event and wait for the answer."""
        directive: Directive = ray.get(self._mailbox.post.remote((kind, content)))
        return directive

    def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive:
        return self.post("step", step, metrics, rollouts)

    def checkpoint(self, step: int, path: Path) -> None:
        self.post("checkpoint", step, path)

    def note(self, text: str) -> None:
        self.post("note", text)


def deliver(event: Event, journal: Journal) -> Directive:
    """Hand an event to the driver's journal."""
    kind, content = event
    if kind == "step":
        return journal.step(*content)
    if kind == "checkpoint":
        journal.checkpoint(*content)
    if kind == "note":
        journal.note(*content)
    return Directive.GO_ON
