"""What the driver does when a step ends: files, trackers, progress, hooks, and whether to go on."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from rlhf.plugins import Plugins
from rlhf.recipe import Recipe
from rlhf.runtime.interruption import Interruption
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
    SAVE = 3
    """Save and go on: the cluster is about to lose a node."""


class Journal(Protocol):
    """Where a run reports; on a worker, a way to the driver's."""

    def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive: ...

    def checkpoint(self, step: int, path: Path) -> None: ...

    def note(self, text: str) -> None: ...


class DriverJournal:
    """The journal itself, one per stage."""

    def __init__(
        self,
        recipe: Recipe,
        plugins: Plugins,
        stage: str,
        folder: Path,
        progress: Progress,
        first_step: int,
        *,
        restarts: int = 0,
    ) -> None:
        """`restarts`: how often the run has been begun again so far, for want of a worker."""
        self._hook = plugins.hook
        self._progress = progress
        self._interruption = Interruption.current()
        self._metrics = MetricsFile(folder / "metrics.jsonl", stage, first_step=first_step)
        self._samples = SamplesFile(folder / "samples.jsonl", first_step=first_step)
        opened = {name: plugins.registry.build("tracker", name, {}, folder) for name in recipe.trackers}
        self._trackers = Trackers(opened, say=progress.note)
        self._restarts = float(restarts)
        self.last: Metrics = {}
        self.last_step = first_step - 1

    def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive:
        """Record a step and say what follows it."""
        metrics = dict(metrics) | {"run/restarts": self._restarts}
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
        return Directive.SAVE if self._interruption.take_save() else Directive.GO_ON

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is complete."""
        self._progress.note(f"checkpoint of step {step}: {path}")
        self._hook.on_checkpoint(step=step, path=path)

    def note(self, text: str) -> None:
        self._progress.note(text)

    def close(self) -> None:
        self._metrics.close()
        self._trackers.close()
