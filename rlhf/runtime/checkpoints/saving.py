"""When to save, and how often in a row that may fail before the run ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlhf.errors import RunError, WorkerDied
from rlhf.runtime.checkpoints.store import Checkpoints
from rlhf.runtime.ranks import Ranks


class Saves:
    """Those of one session of a stage; every rank makes the same calls."""

    def __init__(
        self, checkpoints: Checkpoints, ranks: Ranks, note: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        """`clock` counts seconds and is never set."""
        self._checkpoints, self._ranks, self._note, self._clock = checkpoints, ranks, note, clock
        self._config = checkpoints.config
        self._last, self._seconds = clock(), 0.0
        self._failed = 0

    def due(self, step: int) -> bool:
        """Whether to save after this step. By time the leading rank's clock decides."""
        by_count = bool(self._config.every) and step % self._config.every == 0
        if by_count or not self._config.every_minutes:
            return by_count
        return bool(self._ranks.agree(int(self._clock() - self._last >= 60 * self._config.every_minutes)))

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        state: Mapping[str, Any],
        metrics: Mapping[str, float],
        *,
        leaving: bool,
    ) -> Path | None:
        """Save; None where that failed and the run goes on without, which a line says.

        Raises `RunError` where it has failed too often in a row, or the run is leaving and has no other chance.
        """
        started = self._clock()
        try:
            path = self._checkpoints.save(step, write, state, metrics)
        except WorkerDied:
            raise
        except RunError as failure:
            self._failed += 1
            if leaving:
                raise RunError(f"stopped after step {step} as asked, but the {failure}") from failure
            self._note(f"ALARM: {failure}; {self._go_on_after(failure)}")
            return None
        finally:
            self._last = self._clock()
            self._seconds = self._last - started
        self._failed = 0
        return path

    def _go_on_after(self, failure: RunError) -> str:
        most = self._config.max_failures
        if self._failed > most:
            more = f"; {self._failed} in a row have failed (checkpoint.max_failures: {most})" if most else ""
            raise RunError(f"{failure}{more}") from failure
        return f"the run goes on, which survives {most} of these in a row ({self._failed} so far)"

    def metrics(self) -> dict[str, float]:
        """What the save after the step before took and how many in a row have failed; asked once a step."""
        seconds, self._seconds = self._seconds, 0.0
        if not self._config.every and not self._config.every_minutes:
            return {}
        return {"time/save": seconds, "checkpoint/failed": float(self._failed)}
