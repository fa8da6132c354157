"""Checkpoints to resume from: complete or absent, never in between.

`checkpoints/step-N.tmp/` is filled, its manifest (SHA-256 of every file) written last, then renamed to `step-N/`. Only
a folder with a valid manifest is loaded; a full disk leaves the last good one in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlhf.errors import RunError, WorkerDied

WRITE_FAILURES = (OSError, SafetensorError, RunError)
"""What a full disk looks like: from this process, from safetensors, from a worker."""

_MANIFEST = "manifest.json"
_STATE = "run.json"


class Checkpoints:
    """The checkpoints of one stage."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        state: Mapping[str, Any],
        *,
        leads: bool,
        barrier: Callable[[], None],
    ) -> Path:
        """Save step `step`. Every rank calls it and writes its share with `write`; the leading rank does the rest."""
        final = self.folder / f"step-{step}"
        scratch = self.folder / f"step-{step}.tmp"
        try:
            if leads:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir(parents=True)
            barrier()
            write(scratch)
            barrier()
            if leads:
                (scratch / _STATE).write_text(json.dumps(dict(state)))
                _seal(scratch)
                shutil.rmtree(final, ignore_errors=True)
                scratch.rename(final)
                self._prune()
            barrier()
        except WRITE_FAILURES as error:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, WorkerDied):
                raise
            kept = self.steps()
            last = f"the last good one is step {kept[-1]}" if kept else "there is no earlier one"
            raise RunError(
                f"checkpoint of step {step} could not be written to {self.folder}: {error}; {last}"
            ) from error
        return final

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        names = (
            re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.iterdir() if (path / _MANIFEST).is_file()
        )
        return sorted(int(match.group(1)) for match in names if match)

    def latest(self) -> Path | None:
        """The newest complete checkpoint, after its manifest has been checked; `RunError` names what is damaged."""
        steps = self.steps()
        if not steps:
            return None
        path = self.folder / f"step-{steps[-1]}"
        verify(path)
        return path

    def _prune(self) -> None:
        for step in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{step}")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Step, positions and algorithm state of a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text())
    return state


def verify(checkpoint: Path) -> None:
    """Raise `RunError` naming the first file that is missing or not what the manifest says."""
    way_out = "remove this folder to resume from an earlier one"
    try:
        manifest: dict[str, str] = json.loads((checkpoint / _MANIFEST).read_text())
    except ValueError:
        raise RunError(f"checkpoint {checkpoint}: {_MANIFEST} is damaged; {way_out}") from None
    for name, expected in manifest.items():
        file = checkpoint / name
        if not file.is_file():
            raise RunError(f"checkpoint {checkpoint}: {name} is missing; {way_out}")
        if _sha256(file) != expected:
            raise RunError(f"checkpoint {checkpoint}: {name} is damaged; {way_out}")


def _seal(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {str(path.relative_to(folder)): _sha256(path) for path in files}
    with (folder / _MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
