"""DeepSpeed's C++ part for CPUs, built once on a machine and loaded by every process after that, one at a time.

torch guards both with a lock file that a killed process leaves, and for which all others then wait for ever. Here
processes take turns by a lock that the kernel lets go of when its holder dies, and whoever has it removes that file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch

_NAME = "deepspeed_shm_comm"
_STALE_S = 600
"""No build takes this long; 261 s were seen on a machine with other work to do."""


def load_collectives() -> None:
    """Build or load it here; DeepSpeed then finds it loaded."""
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None and builder.is_compatible():
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(own_folder(torch.__file__)))
        with turn(Path(os.environ["TORCH_EXTENSIONS_DIR"])):
            builder.load()


def own_folder(torch_file: str) -> Path:
    """Of this installation of torch: two of one user would each find the other's build out of date, and build anew."""
    return Path.home() / ".cache" / "torch_extensions" / f"rlhf-{sha256(torch_file.encode()).hexdigest()[:12]}"


@contextmanager
def turn(cache: Path) -> Iterator[None]:
    """The only process of ours that builds or loads there, and no lock of torch's in its way."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{_NAME}.turn").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            oldest = 0.0
        except OSError:  # a file system without locks: age has to tell
            oldest = _STALE_S
        lock = cache / _NAME / "lock"
        if lock.exists() and time.time() - lock.stat().st_mtime >= oldest:
            lock.unlink(missing_ok=True)
        yield
