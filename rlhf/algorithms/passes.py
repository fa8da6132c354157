"""How long a method that learns from rows trains: so many steps, or so many passes over the data."""

from __future__ import annotations

import math

from pydantic import Field

from rlhf.config import PartConfig


class PassesConfig(PartConfig):
    """Options every such method has."""

    batch_size: int = Field(default=32, ge=1)
    """Rows (documents, demonstrations, rankings, judged completions) in one optimizer step, whatever the number of
    workers.
    """
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; what `epochs` comes to where absent."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data, where `steps` is absent."""

    def num_steps(self, rows_per_epoch: int) -> int:
        """Optimizer steps of the whole run, given how many rows an epoch has."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(rows_per_epoch * self.epochs / self.batch_size))
