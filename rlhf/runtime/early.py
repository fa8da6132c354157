"""What need not wait for the last sample: rewards, and models that read what has been written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from rlhf.types import Rollout, TokenBatch

Judge = Callable[[Sequence[Rollout]], Sequence[Any]]
"""One verdict a rollout, in any company."""


class EarlyVerdicts:
    """Samples are judged in the background as they end: those that end during one call are the next."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")
        self._waiting: list[tuple[Rollout, Future[Any]]] = []
        self._lock = Lock()
        self._given: dict[int, tuple[Rollout, Future[Any]]] = {}
        """By identity, for a policy may say the same thing twice; the rollout is held, so that it stays its own."""

    def give(self, rollouts: Sequence[Rollout]) -> None:
        """These are written."""
        new: list[tuple[Rollout, Future[Any]]] = [(rollout, Future()) for rollout in rollouts]
        with self._lock:
            self._waiting += new
        self._given |= {id(rollout): (rollout, future) for rollout, future in new}
        self._thread.submit(self._judge_waiting)

    def take(self, rollouts: Sequence[Rollout]) -> list[Any]:
        """The verdicts, in order; of those that were never given, as a checkpoint's, now and together."""
        new = [rollout for rollout in rollouts if id(rollout) not in self._given]
        late = dict(zip(map(id, new), self._judge(new) if new else [], strict=True))
        return [late[id(r)] if id(r) in late else self._given.pop(id(r))[1].result() for r in rollouts]

    def _judge_waiting(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            verdicts = self._judge([rollout for rollout, _ in batch])
        except BaseException as error:  # noqa: BLE001 - whoever takes them is told
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), verdict in zip(batch, verdicts, strict=True):
            future.set_result(verdict)

    def close(self) -> None:
        """Drop what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class EarlyForwards:
    """A model that reads rows as they are written, and tells later what it made of them; otherwise the model itself."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="early")
        self._given: dict[bytes, tuple[Future[Any], int]] = {}

    def give(self, rows: TokenBatch) -> None:
        """These are written."""
        future = self._thread.submit(self._engine.forward, rows)
        self._given |= {key: (future, number) for number, key in enumerate(rows.row_keys())}

    def forward(self, batch: Any) -> Any:
        """As the model's own; what it was given before is not computed again, once."""
        rows = batch.inputs
        keys = rows.row_keys()
        if any(key not in self._given for key in keys):
            return self._engine.forward(batch)
        answers = [(future.result(), number) for future, number in map(self._given.__getitem__, keys)]
        self._forget(set(keys))
        kind = type(answers[0][0])
        names = vars(answers[0][0])
        return kind(**{name: _stacked([getattr(a, name)[n] for a, n in answers], rows) for name in names})

    def _forget(self, keys: set[bytes]) -> None:
        """These are answered, and so is all that was given before the first of them, or it never will be."""
        given = list(self._given)
        first = min(place for place, key in enumerate(given) if key in keys)
        for key in {*given[:first], *keys}:
            del self._given[key]

    def train_step(self, batch: Any, loss_fn: Any) -> Any:
        """From here on what it said before is not what it would say."""
        self._given.clear()
        return self._engine.train_step(batch, loss_fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Drop what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _stacked(parts: Sequence[Tensor], rows: TokenBatch) -> Tensor:
    """`[B]` of scalars; `[B, T]` of rows that were as wide as the batch in which they were read."""
    if parts[0].dim() == 0:
        return torch.stack(list(parts))
    whole = torch.zeros(rows.tokens.shape, dtype=parts[0].dtype)
    for row, part in zip(whole, parts, strict=True):
        width = min(len(row), len(part))
        row[:width] = part[:width]
    return whole
