"""One run in one folder: a lock that the kernel takes back however the process ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rlhf.errors import ConfigError

LOCK_NAME = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder, made where absent. Raises `ConfigError` naming who holds it already.

    `flock` ends with its process, `kill -9` included, so no lock is ever stale; the file only tells who has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _acquired(folder)
    try:
        yield
    finally:
        (folder / LOCK_NAME).unlink(missing_ok=True)  # while it is held, or another's would go
        file.close()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _acquired(folder: Path) -> TextIO:
    path = folder / LOCK_NAME
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _told(file.read())
            file.close()
            raise ConfigError(
                f"run folder {folder} is in use by {holder}; wait for that run, or give this one another folder with "
                "--out DIR"
            ) from None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # the one who had it has removed the file meanwhile
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%F %T")}) + "\n")
    file.flush()
    return file


def _told(text: str) -> str:
    try:
        holder: dict[str, Any] = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it has the lock, and has not yet written who it is
        return "another run"
