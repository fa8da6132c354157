"""The last file of a checkpoint to be written: what is in it, what wrote it, and how to tell that it is unharmed.

It may come from a broken disk or from a stranger, so every field is checked, and no name in it leads out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlhf.errors import RunError
from rlhf.runtime.checkpoints.durable import sync_file

MANIFEST = "manifest.json"
_LARGEST = 64 * 2**20
"""Bytes of a manifest that is still read; one of 100,000 files has 16 MB."""
_THREADS = 8
"""Files hashed at the same time; hashing does not hold Python's lock."""


class DamagedCheckpoint(RunError):
    """A checkpoint that must not be loaded, in one line: the file, what was expected and what was found."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Origin(_Table):
    """Which run and stage a checkpoint belongs to."""

    run: str
    """The recipe's name."""
    stage: str
    recipe: str
    """A hash of all in the recipe that decides what the stage computes (`StagePlan.identity`)."""


class FileRecord(_Table):
    """One file as it was written."""

    bytes: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Table):
    """All that is said of a checkpoint."""

    step: int = Field(ge=0)
    origin: Origin
    saved_at: float
    """Seconds since 1970 by the clock of the machine that wrote it."""
    world_size: dict[str, int]
    """Processes of each role."""
    dtype: dict[str, str]
    """Of the arithmetic of each trained role."""
    engine: dict[str, str]
    """What ran each role, with the options that decide how it is spread."""
    versions: dict[str, str]
    """Of Python and of the packages whose arithmetic or formats matter."""
    metrics: dict[str, float]
    """The step's figures, those that are finite; `checkpoint.keep_best` looks at them."""
    files: dict[str, FileRecord]
    seal: str = ""
    """SHA-256 of everything above, so that an edited manifest is told from the one that was written."""

    @field_validator("files")
    @classmethod
    def _names_stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            parts = PurePosixPath(name).parts
            inside = parts and not PurePosixPath(name).is_absolute() and ".." not in parts
            if not inside or "\\" in name or "\0" in name or str(PurePosixPath(name)) != name or name == MANIFEST:
                raise ValueError(f"{name!r} is no name of a file in this folder")
        return files

    @property
    def total_bytes(self) -> int:
        """Of all files together."""
        return sum(record.bytes for record in self.files.values())

    def sealed(self) -> Manifest:
        """With its own hash."""
        return self.model_copy(update={"seal": self.own_hash()})

    def own_hash(self) -> str:
        """Of all but the seal."""
        text = json.dumps(self.model_dump(mode="json", exclude={"seal"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


def seal(folder: Path, **about: Any) -> Manifest:
    """Force every file to disk and take its hash, then write the manifest, on disk too when this returns."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        synced = [pool.submit(sync_file, folder / name) for name in names]
        files = dict(zip(names, pool.map(record_of, [folder / name for name in names]), strict=True))
        for done in synced:
            done.result()
    manifest = Manifest(saved_at=time.time(), files=files, **about).sealed()
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(manifest.as_json())
        file.flush()
        os.fsync(file.fileno())
    return manifest


def record_of(path: Path) -> FileRecord:
    """Size and hash of a file as it is now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(bytes=os.fstat(file.fileno()).st_size, sha256=digest)


def records_of(paths: Mapping[str, Path]) -> Iterator[tuple[str, FileRecord]]:
    """The same for several, by name; each as soon as those before it are done."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from zip(paths, pool.map(record_of, paths.values()), strict=True)


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint, whole and unchanged. Raises `DamagedCheckpoint`; looks at no other file."""
    path = checkpoint / MANIFEST
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise DamagedCheckpoint(f"{MANIFEST} is missing: nothing was saved here, or not to its end") from None
    if not stat.S_ISREG(found.st_mode):
        raise DamagedCheckpoint(f"{MANIFEST} is not a plain file")
    if found.st_size > _LARGEST:
        raise DamagedCheckpoint(f"{MANIFEST} has {found.st_size:,} bytes, expected at most {_LARGEST:,}")
    return parse_manifest(path.read_bytes())


def parse_manifest(text: bytes) -> Manifest:
    """The same of what was read already."""
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, finding["loc"]))
        told = f"{where}: {finding['msg']}" if where else finding["msg"]
        raise DamagedCheckpoint(f"{MANIFEST} is damaged ({' '.join(told.split())[:300]})") from None
    if manifest.seal != manifest.own_hash():
        raise DamagedCheckpoint(
            f"{MANIFEST} was changed: expected sha256 {manifest.seal[:16]!r}, found {manifest.own_hash()[:16]!r}"
        )
    return manifest
