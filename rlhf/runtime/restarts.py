"""A stage that lost a worker is begun again from its last checkpoint, as long as that gets it further."""

from __future__ import annotations

from collections.abc import Callable

from rlhf.errors import ResourceError, RunError, WorkerDied


class Restarts:
    """Those of one run. Only lost processes are a reason: what the code or the data did would happen again."""

    def __init__(self, most_in_vain: int, hint: str, note: Callable[[str], None]) -> None:
        """`most_in_vain`: in a row, without a step finished between them that had not been finished before. `hint`:
        how the user goes on.
        """
        self._most, self._hint, self._note = most_in_vain, hint, note
        self.count = 0
        self._in_vain = 0
        self._furthest = ("", 0)
        self._loss: WorkerDied | None = None

    def after(self, loss: WorkerDied | ResourceError, stage: str, *, finished: int, saved: int) -> None:
        """Return, for the stage to be begun again after step `saved`, or raise what ends the run.

        `finished`: the last step that was done, of which 0 is none.
        """
        if isinstance(loss, ResourceError):
            if self._loss is None:
                raise loss
            raise RunError(f"{self._loss}; it cannot be begun again: {loss}; {self._hint}")
        self._loss = loss
        if (stage, finished) != self._furthest and not (stage == self._furthest[0] and finished < self._furthest[1]):
            self._furthest, self._in_vain = (stage, finished), 0
        if not finished and not self.count:
            raise loss  # before its first step: most likely too large, or broken
        if not saved and finished:
            raise WorkerDied(
                f"{loss}; none of its {finished} steps is saved: checkpoint.every has a run go on by itself"
            )
        if self._in_vain >= self._most:
            tried = (
                f"begun again {self._in_vain} times without getting beyond step {finished}; " if self._in_vain else ""
            )
            raise WorkerDied(f"{loss}; {tried}saved up to step {saved}; {self._hint}")
        self.count += 1
        self._in_vain += 1
        self._note(f"{loss}; going on after step {saved}, the last that is saved (restart {self.count})")
