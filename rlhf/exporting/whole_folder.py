"""A folder that is there whole or not at all, and that replaces nothing."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from safetensors import SafetensorError

from rlhf.errors import ConfigError, Interrupted, RunError
from rlhf.runtime.checkpoints import sync_tree
from rlhf.runtime.checkpoints.durable import sync_folder


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` once all is written and on disk; gone where anything fails.

    Raises `ConfigError` where `out` exists, `RunError` where the disk takes no more.
    """
    require_free(out)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process of this number that was killed
    try:
        with _terminated_as_interrupted():
            scratch.mkdir()
            yield scratch
            _make_readable(scratch)
            sync_tree(scratch)
            require_free(out)
            scratch.rename(out)
            sync_folder(out.absolute().parent)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{out} could not be written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Files for whom new folders are: safetensors writes its own for this user alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def require_free(out: Path) -> None:
    """Refuse a name that is taken, and a place that is not there."""
    if os.path.lexists(out):
        raise ConfigError(f"--out {out} exists; give another folder, or remove it first")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which would end the process where it stands, takes the way of Ctrl-C: what was begun is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise Interrupted("nothing was written", 128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
