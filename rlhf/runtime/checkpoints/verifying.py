"""Is this checkpoint whole, unharmed, and of this run? Asked before anything is loaded from it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from rlhf.runtime.checkpoints.manifest import MANIFEST, DamagedCheckpoint, Manifest, Origin, read_manifest, records_of
from rlhf.runtime.checkpoints.state import read_state

_Signature = tuple[tuple[str, int, int, int], ...]
_verified: dict[Path, _Signature] = {}
"""What this process has hashed, and how the files looked then: the driver asks twice, before and in a stage."""


def verify(checkpoint: Path, origin: Origin | None = None) -> Manifest:
    """The manifest, once all it says holds; of another run, stage or recipe than `origin` where that is given is wrong.

    Raises `DamagedCheckpoint` with the first file that is missing, too many, or not what was written.
    """
    found = _files_in(checkpoint)
    manifest = read_manifest(checkpoint)
    _require_own(manifest, checkpoint, origin)
    _require_names(manifest, set(found) - {MANIFEST})
    for name, record in manifest.files.items():
        if found[name].st_size != record.bytes:
            raise DamagedCheckpoint(f"{name}: expected {record.bytes:,} bytes, found {found[name].st_size:,}")
    signature = tuple((name, info.st_ino, info.st_size, info.st_ctime_ns) for name, info in sorted(found.items()))
    if _verified.get(checkpoint.resolve()) != signature:
        for name, now in records_of({name: checkpoint / name for name in manifest.files}):
            if now != manifest.files[name]:
                expected = manifest.files[name].sha256
                raise DamagedCheckpoint(f"{name}: expected sha256 {expected[:16]}, found {now.sha256[:16]}")
        read_state(checkpoint)
        _verified[checkpoint.resolve()] = signature
    return manifest


def _files_in(folder: Path) -> dict[str, os.stat_result]:
    """Every file by its name in the folder. Links and pipes are refused: reading them would lead elsewhere, or hang."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise DamagedCheckpoint("is a link or a file, expected a folder")
    files: dict[str, os.stat_result] = {}
    for path in folder.rglob("*"):
        info, name = path.lstat(), str(path.relative_to(folder))
        if stat.S_ISREG(info.st_mode):
            files[name] = info
        elif not stat.S_ISDIR(info.st_mode):
            raise DamagedCheckpoint(f"{name} is a link or a device, expected a plain file")
    return files


def _require_own(manifest: Manifest, checkpoint: Path, origin: Origin | None) -> None:
    numbered = re.match(r"step-(\d+)", checkpoint.name)
    if numbered and manifest.step != int(numbered[1]):
        raise DamagedCheckpoint(f"{MANIFEST} is of step {manifest.step}, expected step {numbered[1]}")
    if origin is not None and manifest.origin != origin:
        key = next(key for key in Origin.model_fields if getattr(manifest.origin, key) != getattr(origin, key))
        there, here = getattr(manifest.origin, key), getattr(origin, key)
        raise DamagedCheckpoint(f"{MANIFEST} is of another {key}: expected {here!r}, found {there!r}")


def _require_names(manifest: Manifest, found: set[str]) -> None:
    if missing := sorted(manifest.files.keys() - found):
        raise DamagedCheckpoint(f"{missing[0]} is missing: expected {manifest.files[missing[0]].bytes:,} bytes")
    if extra := sorted(found - manifest.files.keys()):
        raise DamagedCheckpoint(f"{extra[0]} is not in {MANIFEST}: nobody knows who put it there")
