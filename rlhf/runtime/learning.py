"""Train engines of a run, which is told when one of them is about to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Learning:
    """An engine as it is, but for `train_step`, of which the run hears first."""

    def __init__(self, engine: Any, begins: Callable[[], None]) -> None:
        self._engine, self._begins = engine, begins

    def train_step(self, batch: Any, loss_fn: Any) -> Any:
        self._begins()
        return self._engine.train_step(batch, loss_fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
