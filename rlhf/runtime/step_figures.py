"""What a run itself measures of a step: where its time went, and what its completions look like."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rlhf.types import Metrics, Rollout


class StepFigures:
    """Of one step, from its making on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._seconds: dict[str, float] = {}
        self.staleness: list[int] = []
        """Updates of the policy since each completion was begun, where samples are drawn ahead."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - start

    def of_time(self) -> Metrics:
        """Seconds of each phase and of the step so far."""
        figures = {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        return figures | {"time/step": time.monotonic() - self._started}

    def of_rollouts(self, rollouts: Sequence[Rollout], *, failed: int) -> Metrics:
        """`failed`: completions of the step beside these, whose reward failed."""
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
        figures: Metrics = {
            "reward/failed": float(failed),
            "rollout/length": sum(lengths) / len(lengths),
            "rollout/truncated": sum(r.completion.finish_reason == "length" for r in rollouts) / len(rollouts),
        }
        if self.staleness:  # a plugin may log rollouts in a step in which none was sampled
            figures["rollout/staleness"] = sum(self.staleness) / len(self.staleness)
        return figures
