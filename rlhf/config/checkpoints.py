"""When a run saves what it needs to go on, what it keeps of that, and where else it puts it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from rlhf.config.parts import PartConfig
from rlhf.errors import ConfigError

_WITH_CREDENTIALS = re.compile(r"//[^/@]*@")


class KeepBestConfig(PartConfig):
    """Checkpoints kept for a metric's sake, beside the latest."""

    metric: str
    """A figure that every step of the stage logs, as `reward/mean` (docs/metrics.md)."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest is the best."""
    count: int = Field(default=1, ge=1)


class CheckpointConfig(PartConfig):
    """When to save what a resumed run needs, and how long to keep it (docs/checkpoints.md)."""

    every: int = Field(default=0, ge=0)
    """Steps between checkpoints; 0: only when the run is interrupted."""
    every_minutes: float = Field(default=0.0, ge=0)
    """Save after a step when this time has passed since the last save, whatever `every` says: for machines that can be
    taken away, and steps that are long. 0: not by time.
    """
    keep: int = Field(default=2, ge=1)
    """How many of the latest to keep. While one is written the disk holds one more."""
    keep_best: KeepBestConfig | None = None
    """Keep the best by a metric too."""
    keep_every_hours: float = Field(default=0.0, ge=0)
    """Keep one for each such span of time too, for good. 0: none."""
    max_failures: int = Field(default=3, ge=0)
    """Checkpoints in a row that may fail to be written, as on a full disk, while the run goes on; one more ends it."""
    upload: str | None = None
    """Copy each finished checkpoint to URL/RUN/STAGE while training goes on, and fetch the newest from there on a
    machine that has none: `s3://bucket/folder`, `gs://...`, `file:///mnt/...`, whatever fsspec opens.
    """

    @field_validator("upload")
    @classmethod
    def _no_secret_in_it(cls, value: str | None) -> str | None:
        if value is not None and _WITH_CREDENTIALS.search(value):
            # No ValueError: its message would show the value.
            raise ConfigError(
                "checkpoint.upload: what is in a URL is written into the run's folder; give it without user or "
                "password, and those where fsspec's package for it looks for them"
            )
        return value
