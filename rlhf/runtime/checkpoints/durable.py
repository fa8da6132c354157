"""Files that are whole or absent, also after a power cut: forced to disk first, named last."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_CANNOT = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that have no way to force a folder to disk (some network and user-space ones)."""


def sync_file(path: Path) -> None:
    """Wait until the file's content is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Both, for all that is in the folder and for the folder itself."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)


def publish(scratch: Path, final: Path) -> None:
    """Give a folder that is on disk its name. What had that name before is removed once the new one has it."""
    before = final.with_name(f"{final.name}.old.tmp")
    shutil.rmtree(before, ignore_errors=True)
    if final.exists():
        final.rename(before)
    scratch.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(before, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that readers see as it was or as it will be, and never in between."""
    scratch = path.with_name(f"{path.name}.tmp")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
