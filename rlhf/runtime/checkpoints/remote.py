"""Checkpoints of one stage in another place, by whatever file system fsspec has for its URL."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from rlhf.errors import ConfigError
from rlhf.runtime.checkpoints.durable import publish, sync_tree
from rlhf.runtime.checkpoints.manifest import MANIFEST, DamagedCheckpoint, Manifest, Origin, parse_manifest
from rlhf.runtime.checkpoints.verifying import verify

LINES = ("metrics.jsonl", "samples.jsonl")
"""Go along, so that a run which is taken up elsewhere has the lines of its earlier steps."""


@dataclass(frozen=True)
class Found:
    """Complete checkpoints by step, ascending."""

    own: dict[int, Manifest] = field(default_factory=dict)
    foreign: dict[int, Manifest] = field(default_factory=dict)
    """Of another run, stage or recipe."""
    damaged: dict[int, str] = field(default_factory=dict)
    """What is wrong with their manifest."""


class RemoteFolder:
    """`URL/RUN/STAGE/step-N/`. A folder counts when its manifest is there, which is written last and removed first."""

    def __init__(self, url: str, origin: Origin) -> None:
        import fsspec  # type: ignore[import-untyped]  # not loaded by runs that upload nothing

        self.url, self.origin = f"{url.rstrip('/')}/{origin.run}/{origin.stage}", origin
        if {".", ".."} & {origin.run, origin.stage}:
            raise ConfigError(f"checkpoint.upload: {self.url} would leave the given folder; name the run otherwise")
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"checkpoint.upload: cannot open {url}: {error}") from None
        self._root = str(root).rstrip("/")
        self._fs.use_listings_cache = False

    def look(self) -> Found:
        """What is there now."""
        self._fs.invalidate_cache()
        try:
            names = sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return Found()
        steps = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d{1,18})", name)))
        found = Found()
        for step in steps:
            try:
                manifest = self._manifest(step)
            except FileNotFoundError:
                continue  # an upload that did not come to its end
            except DamagedCheckpoint as error:
                found.damaged[step] = str(error)
            else:
                (found.own if manifest.origin == self.origin else found.foreign)[step] = manifest
        return found

    def _manifest(self, step: int) -> Manifest:
        manifest = parse_manifest(self._fs.cat_file(self._at(step, MANIFEST)))
        if manifest.step != step:
            raise DamagedCheckpoint(f"{MANIFEST} is of step {manifest.step}, expected step {step}")
        return manifest

    def put(self, step: int, file: Path, name: str) -> None:
        """Copy one file of a checkpoint there. Raises `OSError` where less arrived than was sent."""
        target = self._at(step, name)
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(file), target)
        arrived = self._fs.info(target)["size"]
        if arrived != file.stat().st_size:
            raise OSError(f"{name}: sent {file.stat().st_size:,} bytes, {arrived:,} arrived")

    def put_lines(self, file: Path) -> None:
        """Copy a file of the stage itself there."""
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.put_file(str(file), f"{self._root}/{file.name}")

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Bring a checkpoint here; it has its name once it has been verified and is on disk."""
        scratch = folder / f"step-{manifest.step}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            needed, free = manifest.total_bytes, shutil.disk_usage(scratch).free
            if free < needed:
                raise OSError(f"it has {needed:,} bytes, and the disk of {folder} has {free:,} left")
            for name in [*manifest.files, MANIFEST]:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(self._at(manifest.step, name), str(scratch / name))
            verify(scratch, self.origin)
            sync_tree(scratch)
            publish(scratch, folder / f"step-{manifest.step}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def fetch_lines(self, folder: Path) -> None:
        """Bring the files of the stage itself here, where there are none."""
        for name in LINES:
            if not (folder / name).exists() and self._fs.exists(f"{self._root}/{name}"):
                self._fs.get_file(f"{self._root}/{name}", str(folder / name))

    def remove(self, step: int) -> None:
        """Its manifest first, so that what is left of it never counts."""
        self.spoil(step)
        self._fs.rm(f"{self._root}/step-{step}", recursive=True)

    def spoil(self, step: int) -> None:
        """Make what is there of a step count no longer, before it is written anew."""
        if self._fs.exists(self._at(step, MANIFEST)):
            self._fs.rm_file(self._at(step, MANIFEST))

    def _at(self, step: int, name: str) -> str:
        return f"{self._root}/step-{step}/{name}"


def require_upload(url: str, origin: Origin) -> None:
    """Refuse, before anything expensive starts, a place that cannot be opened or that holds another run's checkpoints.

    Raises `ConfigError`.
    """
    remote = RemoteFolder(url, origin)
    try:
        foreign = remote.look().foreign
    except Exception as error:
        raise ConfigError(f"checkpoint.upload: cannot look into {remote.url}: {one_line(error)}") from error
    if foreign:
        step, manifest = next(iter(foreign.items()))
        raise ConfigError(
            f"checkpoint.upload: {remote.url} holds checkpoints of another recipe ({manifest.origin.recipe} in "
            f"step-{step}, this is {origin.recipe}); name the run otherwise, give another URL, or remove them"
        )


def one_line(error: Exception) -> str:
    """Kind and words of what a library raised."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
