"""What a user sees while a run goes on: a live view in a terminal or notebook, plain lines in a log file."""

from __future__ import annotations

import builtins
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from rlhf.tracking.progress_plain import PlainProgress
from rlhf.types import Metrics


class Progress(Protocol):
    """One view for a whole run; `start` and `finish` enclose each stage."""

    def start(self, stage: str, total_steps: int, resumed_from: int = 0) -> None:
        """A stage begins; `resumed_from` steps of it were done before."""
        ...

    def update(self, step: int, metrics: Metrics) -> None:
        """Step `step` has ended; steps count from 1."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line: a checkpoint, a warning. May be called between stages."""
        ...

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """The stage has ended with these final figures. None: it was cut short. Gives the terminal back."""
        ...


def progress_for(stream: TextIO) -> Progress:
    """The view that suits where `stream` ends: a notebook cell, a terminal, or a file."""
    if _in_notebook() or (stream.isatty() and os.environ.get("TERM") != "dumb"):
        from rlhf.tracking.progress_live import LiveProgress  # loads rich, which a log file has no use for

        return LiveProgress(None if _in_notebook() else stream)
    return PlainProgress(stream)


def _in_notebook() -> bool:
    """A Jupyter kernel that can show a live widget; without ipywidgets, plain lines serve better."""
    shell = getattr(builtins, "get_ipython", None)
    if shell is None or type(shell()).__name__ != "ZMQInteractiveShell":
        return False
    return importlib.util.find_spec("ipywidgets") is not None
