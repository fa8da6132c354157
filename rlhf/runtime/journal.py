"""What the driver does when a step ends: files, trackers, progress, hooks, and whether to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rlhf.plugins import Plugins
from rlhf.recipe import Recipe
from rlhf.tracking.metrics_file import MetricsFile
from rlhf.tracking.progress import Progress
from rlhf.tracking.samples_file import SamplesFile
from rlhf.tracking.trackers import Trackers
from rlhf.types import Metrics, Rollout


class Directive(IntEnum):
    """What follows a step."""

    GO_ON = 0
    END = 1
    """A plugin's `should_stop`: end as if this had been the last step."""
    INTERRUPT = 2
    """Save and leave."""


class Journal(Protocol):
    """Where a run reports; on a worker, a way to the driver's."""

    def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive: ...

    def checkpoint(self, step: int, path: Path) -> None: ...

    def note(self, text: str) -> None: ...


class DriverJournal:
    """The journal itself, one per stage."""

    def __init__(
        self, recipe: Recipe, plugins: Plugins, stage: str, folder: Path, progress: Progress, first_step: int
    ) -> None:
        self._hook = plugins.hook
        self._progress = progress
        self._interruption = Interruption.current()
        self._metrics = MetricsFile(folder / "metrics.jsonl", stage, first_step=first_step)
        self._samples = SamplesFile(folder / "samples.jsonl", first_step=first_step)
        opened = {name: plugins.registry.build("tracker", name, {}, folder) for name in recipe.trackers}
        self._trackers = Trackers(opened, say=progress.note)
        self.last: Metrics = {}
        self.last_step = first_step - 1

    def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive:
        """Record a step and say what follows it."""
        self.last, self.last_step = metrics, step
        self._metrics.log(step, metrics)
        if rollouts:
            self._samples.log(step, rollouts)
        self._trackers.log(step, metrics)
        self._progress.update(step, metrics)
        if rollouts:
            self._hook.on_rollouts(step=step, rollouts=rollouts)
        self._hook.on_step_end(step=step, metrics=dict(metrics))
        if self._interruption.requested:
            return Directive.INTERRUPT
        reason = self._hook.should_stop(step=step, metrics=dict(metrics))
        if reason is not None:
            self._progress.note(f"stopping after step {step}: {reason}")
            return Directive.END
        return Directive.GO_ON

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is complete."""
        self._progress.note(f"checkpoint of step {step}: {path}")
        self._hook.on_checkpoint(step=step, path=path)

    def note(self, text: str) -> None:
        self._progress.note(text)

    def close(self) -> None:
        self._metrics.close()
        self._trackers.close()


class Interruption:
    """SIGINT and SIGTERM as a flag that each step's end looks at; a second signal leaves at once."""

    _current: Interruption | None = None

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 130

    @classmethod
    def current(cls) -> Interruption:
        """The one that catches signals now, or one that is never set."""
        return cls._current or cls()

    @classmethod
    @contextmanager
    def caught(cls, note: Any) -> Iterator[Interruption]:
        """Catch the two signals inside; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield cls()
            return
        interruption = cls()

        def on_signal(number: int, _: FrameType | None) -> None:
            if interruption.requested:
                raise KeyboardInterrupt
            interruption.requested = True
            interruption.exit_code = 128 + number
            note("stopping after this step, with a checkpoint; again to leave at once")

        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        cls._current = interruption
        try:
            yield interruption
        finally:
            cls._current = None
            for number, handler in previous.items():
                signal.signal(number, handler)
