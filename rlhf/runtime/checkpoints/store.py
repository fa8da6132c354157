"""The checkpoints of one stage: saved whole or not at all, the newest good one found, old ones removed last."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rlhf.config import CheckpointConfig
from rlhf.errors import RunError, WorkerDied
from rlhf.runtime.checkpoints.durable import publish, sync_file, sync_folder
from rlhf.runtime.checkpoints.keeping import kept, require_metric
from rlhf.runtime.checkpoints.manifest import MANIFEST, DamagedCheckpoint, Manifest, Origin, read_manifest, seal
from rlhf.runtime.checkpoints.provenance import engines_of, package_versions
from rlhf.runtime.checkpoints.state import write_state
from rlhf.runtime.checkpoints.upload import Uploads
from rlhf.runtime.checkpoints.verifying import verify
from rlhf.runtime.ranks import Ranks

WRITE_FAILURES = (OSError, SafetensorError, RunError)
"""What a full disk looks like: from this process, from safetensors, from a worker."""

_LARGE = 2 * 10**9
"""Bytes beyond which reading a checkpoint through takes long enough to say so."""


class Checkpoints:
    """`step-N.tmp/` is filled and forced to disk, its manifest last; then it is named `step-N/`, then old ones go."""

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        origin: Origin,
        world_size: Mapping[str, int],
        *,
        ranks: Ranks,
        note: Callable[[str], None],
    ) -> None:
        self.folder, self.config, self.origin = folder, config, origin
        self._world_size = dict(world_size)
        self._ranks, self._note = ranks, note
        self._leads = ranks.rank == 0
        self.uploads = None
        if config.upload is not None and self._leads:
            self.uploads = Uploads(config.upload, config, origin, folder.parent)

    def require_metric(self, metrics: Mapping[str, float]) -> None:
        """Refuse a `checkpoint.keep_best` that names none of these figures. Raises `ConfigError`."""
        require_metric(self.config.keep_best, metrics)

    def tell(self) -> None:
        """Say what uploads have come to since this was last asked."""
        if self.uploads is not None:
            self.uploads.tell(self._note)

    def settle(self) -> None:
        """Wait for uploads, saying how far they are."""
        if self.uploads is not None:
            self.uploads.settle(self._note)
            self._prune()

    # --- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        state: Mapping[str, Any],
        metrics: Mapping[str, float],
    ) -> Path:
        """Save step `step`. Every rank calls it and writes its share with `write`; the leading rank does the rest.

        Raises `RunError` in every rank where it could not be written anywhere; what was there before still is.
        """
        final, scratch = self.folder / f"step-{step}", self.folder / f"step-{step}.tmp"

        def finish() -> None:
            write_state(scratch, state)
            self._seal(scratch, step, metrics)
            publish(scratch, final)

        try:
            self._agree_on(step, self._tried(lambda: self._prepare(scratch)) if self._leads else None)
            failure = self._tried(lambda: write(scratch))
            if failure is not None:
                shutil.rmtree(scratch, ignore_errors=True)  # then the leading rank finds nothing to seal, either
            self._ranks.barrier()
            if self._leads and failure is None:
                failure = self._tried(finish)
            self._agree_on(step, failure)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        if self._leads:
            if self.uploads is not None:
                self.uploads.offer(final)
            self._prune()
        return final

    def _agree_on(self, step: int, failure: Exception | None) -> None:
        """All learn whether the leading rank's part went well, and go on or raise alike."""
        well = bool(self._ranks.agree(int(failure is None)))
        if well and failure is None:
            return
        good = self.steps()
        last = f"the last good one is step {good[-1]}" if good else "there is no earlier one"
        why = failure or "see the first process"
        raise RunError(f"checkpoint of step {step} could not be written to {self.folder}: {why}; {last}") from failure

    def _tried(self, do: Callable[[], None]) -> Exception | None:
        try:
            do()
        except WorkerDied:
            raise  # no matter of the disk
        except WRITE_FAILURES as error:
            return error
        return None

    def _prepare(self, scratch: Path) -> None:
        """An empty folder, on a disk with room for as much as the last one took."""
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        earlier = [manifest.total_bytes for manifest in self._readable().values()]
        disk = shutil.disk_usage(scratch)
        if earlier and disk.total and disk.free < earlier[-1]:  # some network file systems tell no size at all
            raise OSError(f"needs {earlier[-1]:,} bytes, as the last one did, and the disk has {disk.free:,} left")

    def _seal(self, scratch: Path, step: int, metrics: Mapping[str, float]) -> None:
        told = engines_of(scratch)
        seal(
            scratch,
            step=step,
            origin=self.origin,
            world_size=self._world_size,
            dtype={role: header["dtype"] for role, header in told.items() if "dtype" in header},
            engine={role: header["engine"] for role, header in told.items() if "engine" in header},
            versions=package_versions(),
            metrics={name: float(value) for name, value in metrics.items() if math.isfinite(value)},
        )
        for path in [path for path in scratch.rglob("*") if path.is_dir()]:
            sync_folder(path)
        sync_folder(scratch)
        for lines in self.folder.parent.glob("*.jsonl"):
            sync_file(lines)  # what was logged of these steps is not logged again by a run that goes on from here

    # --- finding -----------------------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending; whether they are unharmed has not been looked at."""
        return [step for step in self._named() if (self.folder / f"step-{step}" / MANIFEST).is_file()]

    def newest_good(self) -> Path | None:
        """The newest checkpoint that is whole, unharmed and of this run; None where there is none at all.

        Newer ones that are not are set aside under another name, with a line each. Where no one is good nothing is
        touched: a `RunError` names them all. Only the leading rank reads; every rank must ask.
        """
        step, failure = 0, None
        if self._leads:
            try:
                step = self._find()
            except RunError as error:
                failure, step = error, -1
        step = self._ranks.agree(step)
        if step < 0:
            raise failure or RunError(f"no checkpoint in {self.folder} is good; see the first process")
        return self.folder / f"step-{step}" if step else None

    def _find(self) -> int:
        for leftover in self.folder.glob("step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        damaged: dict[int, DamagedCheckpoint] = {}
        good = 0
        for step in reversed(self._named()):
            try:
                self._verify(step)
            except DamagedCheckpoint as error:
                damaged[step] = error
            else:
                good = step
                break
        if self.uploads is not None:
            good = self.uploads.fetch_newer(good, self.folder, self._note)
        if damaged and not good:
            told = "; ".join(f"step-{step}: {error}" for step, error in damaged.items())
            raise RunError(
                f"no checkpoint in {self.folder} is good ({told}); put back an unharmed one, or remove that "
                f"folder to begin stage {self.origin.stage!r} again"
            )
        for step, fault in damaged.items():
            if step != good:  # or one of the same step was fetched in its place
                aside = self._set_aside(step)
                self._note(f"checkpoint step-{step}: {fault}; set aside as {aside}, going on from step {good}")
        return good

    def _verify(self, step: int) -> Manifest:
        path = self.folder / f"step-{step}"
        try:
            size = read_manifest(path).total_bytes
        except (DamagedCheckpoint, OSError):
            size = 0  # said below, with its reason
        if size > _LARGE:
            self._note(f"checking checkpoint step-{step} ({size / 1e9:.1f} GB)")
        return verify(path, self.origin)

    def _set_aside(self, step: int) -> str:
        names = (f"step-{step}.set-aside{suffix}" for suffix in ["", *(f"-{n}" for n in range(2, 1000))])
        name = next(name for name in names if not (self.folder / name).exists())
        (self.folder / f"step-{step}").rename(self.folder / name)
        return name

    def _named(self) -> list[int]:
        """What is called like a checkpoint, ascending by step."""
        if not self.folder.is_dir():
            return []
        names = (re.fullmatch(r"step-(\d{1,18})", path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match and match[1] == str(int(match[1])))

    # --- removing ----------------------------------------------------------------------------------------------------

    def _readable(self) -> dict[int, Manifest]:
        """Manifests by step, ascending. What is damaged is left alone, for a resume to look at."""
        found = {}
        for step in self.steps():
            try:
                found[step] = read_manifest(self.folder / f"step-{step}")
            except DamagedCheckpoint:
                continue
        return found

    def _prune(self) -> None:
        found = self._readable()
        needed = kept(found.values(), self.config) | (self.uploads.holding() if self.uploads is not None else set())
        for step in found.keys() - needed:
            going = self.folder / f"step-{step}.old.tmp"  # so that one half removed is not taken for a damaged one
            (self.folder / f"step-{step}").rename(going)
            shutil.rmtree(going, ignore_errors=True)
