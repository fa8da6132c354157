"""A group of actors that satisfies the same protocol as a train engine in one process; waiting for actors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from torch import Tensor

from rlhf.errors import ResourceError, RunError, UserError, WorkerDied
from rlhf.protocols import Loss
from rlhf.types import Batch, Fingerprint, Metrics

_SECOND_THOUGHTS = 2.0
"""Seconds to look at the others after a first failure: a rank may fail before the peer it lost is known dead."""


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

    def __init__(self, role: str, workers: Sequence[Any]) -> None:
        self.role = role
        self.workers = tuple(workers)

    def forward(self, batch: Batch) -> Any:
        """Output for every row, in order."""
        shared = ray.put(batch)
        return self._each(lambda worker, rank: worker.forward.remote(shared, rank == 0))[0]

    def base_forward(self, batch: Batch) -> Any:
        """`forward` without adapters."""
        shared = ray.put(batch)
        return self._each(lambda worker, rank: worker.base_forward.remote(shared, rank == 0))[0]

    def train_step(self, batch: Batch, loss_fn: Loss[Any]) -> Metrics:
        """One optimizer step over all ranks."""
        shared = ray.put(batch)
        metrics: list[Metrics] = self._each(lambda worker, _: worker.train_step.remote(shared, loss_fn))
        return metrics[0]

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Full weights, or without `base` adapters alone, in the object store until asked for."""
        streams = [
            worker.weights.options(num_returns="streaming").remote(rank == 0, base)
            for rank, worker in enumerate(self.workers)
        ]
        results([stream.completed() for stream in streams], self.role)
        return RemoteWeights(list(streams[0]))

    def fingerprints(self) -> dict[str, Fingerprint] | None:
        """Of the live parameters, told by the first rank; only these few numbers travel."""
        told: list[dict[str, Fingerprint]] = self._each(lambda worker, _: worker.fingerprints_of_weights.remote())
        return told[0]

    def export(self, path: Path) -> None:
        self._each(lambda w, _: w.export.remote(path))

    def save(self, path: Path) -> None:
        self._each(lambda w, _: w.save.remote(path))

    def load(self, path: Path) -> None:
        self._each(lambda w, _: w.load.remote(path))

    def sleep(self) -> None:
        self._each(lambda w, _: w.sleep.remote())

    def wake(self) -> None:
        self._each(lambda w, _: w.wake.remote())

    def _each(self, call: Any) -> list[Any]:
        return results([call(worker, rank) for rank, worker in enumerate(self.workers)], self.role)


# --- waiting ---------------------------------------------------------------------------------------------------------


def results(references: Sequence[Any], role: str, timeout: float | None = None) -> list[Any]:
    """Results in order; on a failure look at the others briefly and raise what came first in cause, not in time."""
    deadline = None if timeout is None else time.monotonic() + timeout
    answers: dict[int, Any] = {}
    failures: list[tuple[int, RayError]] = []
    pending = {reference: rank for rank, reference in enumerate(references)}
    while pending:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, _ = ray.wait(list(pending), num_returns=1, timeout=left, fetch_local=False)
        if not done and not failures:
            raise ResourceError(f"{role}: workers not ready within {timeout:g} s (runtime.start_timeout)")
        if not done:
            break
        rank = pending.pop(done[0])
        try:
            answers[rank] = ray.get(done[0])
        except RayError as failure:
            failures.append((rank, failure))
            deadline = time.monotonic() + _SECOND_THOUGHTS
    if failures:
        raise root_cause(failures, role)
    return [answers[rank] for rank in range(len(references))]


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
    told = re.search(r"Worker exit detail: ([^\n]+)", str(error))
    if told is None:
        return str(error).strip().splitlines()[-1].strip()
    if "unexpectedly" in told[1]:
        return "its process ended without a word: killed, out of memory (the kernel's log says so), or crashed"
    return told[1]
