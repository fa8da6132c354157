"""TensorBoard event files through tensorboardX, which writes them without TensorBoard or TensorFlow."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.errors import ConfigError
from rlhf.types import Metrics


class TensorBoardConfig(PartConfig):
    """How the event files are written."""

    flush_seconds: float = Field(default=10.0, gt=0)
    """Longest time a figure waits in memory before it is on disk."""


class TensorBoard:
    """Event files under `folder/tensorboard`; look at them with `tensorboard --logdir RUN`."""

    def __init__(self, config: TensorBoardConfig, folder: Path) -> None:
        if not tensorboard_installed():
            raise ConfigError("tracker 'tensorboard' needs tensorboardX: pip install tensorboardX, or remove it.")
        self._config = config
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def log(self, step: int, metrics: Metrics) -> None:
        if self._writer is None:
            self._writer = self._open(step)
        for name, value in metrics.items():
            if math.isfinite(value):  # tensorboardX prints a warning for each that is not; metrics.jsonl names them
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> Any:
        """Opened at the first step, which after a resume hides what the interrupted run logged from there on."""
        from tensorboardX import SummaryWriter

        # Files are named by the second; the suffix keeps a quick restart from overwriting the first.
        return SummaryWriter(
            str(self._folder), purge_step=step, flush_secs=self._config.flush_seconds, filename_suffix=f".{step}"
        )


def tensorboard_installed() -> bool:
    """Whether the tracker can work here; it is on by default where it can."""
    return importlib.util.find_spec("tensorboardX") is not None
