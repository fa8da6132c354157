"""A group of actors that satisfies the same protocol as a train engine in one process; waiting for actors."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from torch import Tensor

from rlhf.errors import ResourceError, RunError, UserError, WorkerDied
from rlhf.protocols import Loss
from rlhf.types import Batch, Fingerprint, Metrics

_SECOND_THOUGHTS = 2.0
"""Seconds to look at the others after a first failure: a rank may fail before the peer it lost is known dead."""

_LONG_S = 60.0
"""Seconds after which it is said who is waited for."""


BUCKET_BYTES = 1 << 28
"""Of the weights that a process takes out of the object store, or puts into it, at a time."""


class RemoteWeights(Iterator[tuple[str, Tensor]]):
    """Weights in the object store, in buckets; a group of actors is handed the references to these instead."""

    def __init__(self, buckets: Sequence[Any]) -> None:
        self.buckets = list(buckets)
        self._items = unpacked(self.buckets)

    def __next__(self) -> tuple[str, Tensor]:
        return next(self._items)


def in_buckets(weights: Iterable[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    """The weights, cut behind every `BUCKET_BYTES`."""
    bucket: list[tuple[str, Tensor]] = []
    for name, tensor in weights:
        bucket.append((name, tensor))
        if sum(tensor.nbytes for _, tensor in bucket) >= BUCKET_BYTES:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def unpacked(buckets: Iterable[Any]) -> Iterator[tuple[str, Tensor]]:
    """The weights in referenced buckets, of which one is here at a time."""
    for bucket in buckets:
        yield from ray.get(bucket)


class EngineGroup:
    """A role's ranks as one `TrainEngine`.

    Every rank is given the global batch, by reference, and its engine takes the rows that fall to it; so an engine
    spreads a batch in the same way here and under Ray Train.
    """

    def __init__(
        self,
        role: str,
        workers: Sequence[Any],
        timeout: float | None = None,
        note: Callable[[str], None] = lambda _: None,
        replace: Callable[[], Sequence[Any]] | None = None,
    ) -> None:
        """`timeout`: seconds the ranks may take over one call. `replace`: makes fresh workers of a role whose lost ones
        had learnt nothing, which are then asked again.
        """
        self.role = role
        self.workers = tuple(workers)
        self._timeout, self._note, self._replace = timeout, note, replace
        self._longest: dict[str, float] = {}
        self._renewing = threading.Lock()

    def forward(self, batch: Batch) -> Any:
        """Output for every row, in order."""
        shared = ray.put(batch)
        return self._each("forward", lambda worker, rank: worker.forward.remote(shared, rank == 0))[0]

    def base_forward(self, batch: Batch) -> Any:
        """`forward` without adapters."""
        shared = ray.put(batch)
        return self._each("forward", lambda worker, rank: worker.base_forward.remote(shared, rank == 0))[0]

    def train_step(self, batch: Batch, loss_fn: Loss[Any]) -> Metrics:
        """One optimizer step over all ranks."""
        shared = ray.put(batch)
        metrics: list[Metrics] = self._each("update", lambda worker, _: worker.train_step.remote(shared, loss_fn))
        return metrics[0]

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Full weights, or without `base` adapters alone, in the object store until asked for."""
        streams = [
            worker.weights.options(num_returns="streaming").remote(rank == 0, base)
            for rank, worker in enumerate(self.workers)
        ]
        self._wait("weights", [stream.completed() for stream in streams])
        return RemoteWeights(list(streams[0]))

    def fingerprints(self) -> dict[str, Fingerprint] | None:
        """Of the live parameters, told by the first rank; only these few numbers travel."""
        told: list[dict[str, Fingerprint]] = self._each(
            "fingerprints", lambda worker, _: worker.fingerprints_of_weights.remote()
        )
        return told[0]

    def export(self, path: Path) -> None:
        self._each("export", lambda w, _: w.export.remote(path))

    def save(self, path: Path) -> None:
        self._each("save", lambda w, _: w.save.remote(path))

    def load(self, path: Path) -> None:
        self._each("load", lambda w, _: w.load.remote(path))

    def sleep(self) -> None:
        self._each("sleep", lambda w, _: w.sleep.remote())

    def wake(self) -> None:
        self._each("wake", lambda w, _: w.wake.remote())

    def _each(self, what: str, call: Callable[[Any, int], Any]) -> list[Any]:
        asked = self.workers
        try:
            return self._wait(what, [call(worker, rank) for rank, worker in enumerate(asked)])
        except WorkerDied as loss:
            if self._replace is None:
                raise
            self._renew(asked, loss, self._replace)
        return self._wait(what, [call(worker, rank) for rank, worker in enumerate(self.workers)])

    def _renew(self, lost: Sequence[Any], loss: WorkerDied, replace: Callable[[], Sequence[Any]]) -> None:
        """Once, however many threads were waiting for those that are lost."""
        with self._renewing:
            if self.workers is lost:
                self.workers = tuple(replace())
                self._note(f"{loss}; it is replaced, and asked again")

    def _wait(self, what: str, references: Sequence[Any]) -> list[Any]:
        started = time.monotonic()
        worth_a_note = max(_LONG_S, 3 * self._longest.get(what, 0.0))
        watch = None if self._timeout is None else Watch(what, self._timeout, worth_a_note, self._note)
        answers = results(references, self.role, watch=watch)
        self._longest[what] = max(self._longest.get(what, 0.0), time.monotonic() - started)
        return answers


# --- waiting ---------------------------------------------------------------------------------------------------------


class Watch(NamedTuple):
    """How long a call may take, and when it is worth a line."""

    what: str
    timeout: float
    long: float
    note: Callable[[str], None]


def results(
    references: Sequence[Any], role: str, timeout: float | None = None, *, watch: Watch | None = None
) -> list[Any]:
    """Results in order; on a failure look at the others briefly and raise what came first in cause, not in time.

    Raises `ResourceError` where workers that start need longer than `timeout` seconds, and `WorkerDied` where running
    ones take longer than `watch` allows.
    """
    started = time.monotonic()
    limit = timeout if watch is None else watch.timeout
    next_note = math.inf if watch is None else watch.long
    answers: dict[int, Any] = {}
    failures: list[tuple[int, RayError]] = []
    pending = {reference: rank for rank, reference in enumerate(references)}
    while pending:
        seconds = time.monotonic() - started
        left = None if limit is None else max(0.0, min(limit, next_note) - seconds)
        done, _ = ray.wait(list(pending), num_returns=1, timeout=left, fetch_local=False)
        if not done and failures:
            break
        if not done:
            seconds = time.monotonic() - started
            if watch is not None and seconds < watch.timeout:
                next_note *= 2
                watch.note(f"{watch.what}: waiting for {_names(role, pending.values())} for {seconds:.0f} s")
                continue
            raise _overdue(role, pending.values(), timeout, watch)
        rank = pending.pop(done[0])
        try:
            answers[rank] = ray.get(done[0])
        except RayError as failure:
            failures.append((rank, failure))
            limit, next_note = time.monotonic() - started + _SECOND_THOUGHTS, math.inf
    if failures:
        raise root_cause(failures, role)
    return [answers[rank] for rank in range(len(references))]


def _overdue(role: str, ranks: Iterable[int], timeout: float | None, watch: Watch | None) -> Exception:
    if watch is None:
        return ResourceError(f"{role}: workers not ready within {timeout:g} s (runtime.start_timeout)")
    who = _names(role, ranks)
    return WorkerDied(f"{who} hangs: no answer to {watch.what} in {watch.timeout:g} s (runtime.call_timeout)")


def _names(role: str, ranks: Iterable[int]) -> str:
    """`policy worker 1`, `policy workers 0, 1`."""
    numbers = sorted(ranks)
    return f"{role} worker{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def root_cause(failures: Sequence[tuple[int, RayError]], role: str) -> Exception:
    """A dead worker before its peers' broken connections; our own errors as they are."""
    rank, error = next(((r, e) for r, e in failures if isinstance(e, RayActorError)), failures[0])
    who = f"{role} worker {rank}"
    if isinstance(error, RayActorError):
        return WorkerDied(f"{who} died: {_reason(error)}")
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RunError | UserError):
        return cause
    return RunError(f"{who} failed: {type(cause).__name__}: {cause}")


def _reason(error: RayActorError) -> str:
    """How it ended: the telling line of Ray's paragraphs about a dead actor."""
    if re.search("its node (has )?died|node was terminated|node has crashed", str(error)):
        return "its node was lost, with all that ran there"
    told = re.search(r"Worker exit detail: ([^\n]+)", str(error))
    if told is None:
        return str(error).strip().splitlines()[-1].strip()
    if "unexpectedly" in told[1]:
        return "its process ended without a word: killed, out of memory (the kernel's log says so), or crashed"
    return told[1]
