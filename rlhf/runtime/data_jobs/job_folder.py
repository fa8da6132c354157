"""What a job over a file has done so far, in a folder beside its output: so that it goes on where it was killed.

A finished block has a marker, written last and moved into place: a block is done whole or not at all. The folder goes
when the output is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf.data.curation.blocks import Block, Snapshot
from rlhf.errors import ConfigError, DataError

_JOB = "job.json"
_BLOCKS = "blocks.jsonl"


class JobFolder:
    """The folder of one job."""

    def __init__(self, out: Path, settings: Mapping[str, Any], inputs: Iterable[Path], *, resume: bool) -> None:
        """`settings` and the state of `inputs` must be the same for a job to be gone on with.

        Raises `ConfigError` where `out` exists, or there is work on it that is another's or was not asked for.
        """
        self.out = out
        self.path = out.with_name(f".{out.name}.work")
        if out.exists():
            raise ConfigError(f"--out {out} exists; give another file, or remove it first")
        if not out.absolute().parent.is_dir():
            raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")
        self.inputs = [Snapshot.of(path) for path in inputs]
        told = {"settings": dict(settings), "inputs": [snapshot.as_dict() for snapshot in self.inputs]}
        job = json.loads(json.dumps(told))  # as it is read back: lists for tuples
        if self.path.exists():
            if not resume:
                raise ConfigError(
                    f"{self.path} holds unfinished work on {out.name}: go on with --resume, or remove the folder"
                )
            self._require_same(job)
        else:
            self.path.mkdir()
            write_json(self.path / _JOB, job)

    def _require_same(self, job: Mapping[str, Any]) -> None:
        file = self.path / _JOB
        before = json.loads(file.read_text("utf-8")) if file.exists() else job
        if before["inputs"] != job["inputs"]:
            changed = next(
                (old["path"] for old, new in zip(before["inputs"], job["inputs"], strict=False) if old != new), "a file"
            )
            raise DataError(f"{changed} is not as it was when {self.path} was begun: remove the folder and begin anew")
        for name, value in job["settings"].items():
            if before["settings"].get(name) != value:
                raise ConfigError(
                    f"--resume: {name} was {before['settings'].get(name)!r} when {self.path} was begun, and is "
                    f"{value!r} now; give the same options, or remove the folder"
                )
        write_json(file, job)

    def require_unchanged(self) -> None:
        """Raise `DataError` where an input is not as it was."""
        for snapshot in self.inputs:
            snapshot.require_unchanged()

    # --- blocks -------------------------------------------------------------------------------------------------------

    def blocks(self, plan: Iterable[Block]) -> list[Block]:
        """The blocks planned when the job was begun, or now."""
        file = self.path / _BLOCKS
        if not file.exists():
            write_whole(file, "".join(json.dumps(asdict(block)) + "\n" for block in plan))
        with file.open(encoding="utf-8") as lines:
            return [Block(**json.loads(line)) for line in lines]

    def summary(self, stage: str, number: int) -> dict[str, Any] | None:
        """What a finished block told, or None where it is not finished."""
        marker = block_file(self.path, stage, number, ".done")
        return json.loads(marker.read_text("utf-8")) if marker.exists() else None

    def finish_block(self, stage: str, number: int, summary: Mapping[str, Any]) -> None:
        """Mark a block as done, all its files being written."""
        write_json(block_file(self.path, stage, number, ".done"), summary)

    def remove(self) -> None:
        """The output is complete."""
        shutil.rmtree(self.path)


def block_file(folder: Path, stage: str, number: int, suffix: str) -> Path:
    """Where a block's results of a stage lie."""
    return folder / f"{stage}-{number:06d}{suffix}"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """The file is there whole, or not at all."""
    write_whole(path, json.dumps(value, ensure_ascii=False))


def write_whole(path: Path, text: str) -> None:
    """The file is there whole, or not at all. Lone surrogates, which UTF-8 has no place for, are written as escapes."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(text.encode("utf-8", "backslashreplace"))
    scratch.replace(path)


def join_files(parts: Iterable[Path], out: Path) -> None:
    """All the parts, one after the other, as a file that is there whole or not at all."""
    scratch = out.with_name(f".{out.name}.tmp")
    with scratch.open("wb") as file:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, file, 2**20)
    scratch.replace(out)
