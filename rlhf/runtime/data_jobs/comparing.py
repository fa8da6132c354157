"""The second stage of curation: rows compared with each other. One process, which holds some 40 bytes a row."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.data.curation.blocks import Block, Line
from rlhf.data.curation.minhash import Banding
from rlhf.data.curation.near_duplicates import Duplicate, NearDuplicates, exact_duplicates, in_order, shared_bands
from rlhf.data.curation.wording import Hashes, distinct_grams
from rlhf.errors import Interrupted
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file
from rlhf.runtime.data_jobs.lines_source import LinesSource
from rlhf.runtime.data_jobs.scanning import SHINGLE
from rlhf.runtime.interruption import Interruption
from rlhf.tracking.progress import progress_for

_FILE = "duplicates.npy"
DUPLICATE = np.dtype([("row", np.int64), ("original_line", np.int64), ("similarity", np.float64), ("is_exact", bool)])


def find_duplicates(
    source: LinesSource,
    blocks: Sequence[Block],
    scans: Sequence[dict[str, Any]],
    folder: JobFolder,
    banding: Banding | None,
    threshold: float,
) -> Path:
    """Write every row that is a copy of an earlier one, in order of rows; returns the file. Not done twice."""
    path = folder.path / _FILE
    if path.exists():
        return path
    rows = _Rows(source, blocks, scans, folder.path)
    alive = rows.alive()
    originals = exact_duplicates(rows.keys())
    found = [Duplicate(int(r), int(originals[r]), 1.0, is_exact=True) for r in np.flatnonzero(alive & (originals >= 0))]
    if banding is not None:
        alive &= originals < 0
        shared = shared_bands((rows.band(number) for number in range(banding.bands)), alive)
        finder = NearDuplicates(threshold, rows.grams)
        found += in_order(_shown(rows), shared, alive, finder)
    table = np.array(sorted((d.row, rows.line_number(d.original), d.similarity, d.is_exact) for d in found), DUPLICATE)
    scratch = path.with_suffix(".tmp.npy")
    np.save(scratch, table)
    scratch.replace(path)
    return path


def _shown(rows: _Rows) -> Iterator[tuple[int, Hashes]]:
    """Blocks of keys, with progress."""
    progress, interruption = progress_for(sys.stderr), Interruption.current()
    progress.start("compare", len(rows.starts) - 1)
    try:
        for number, block in enumerate(rows.bands(), start=1):
            yield block
            progress.update(number, {})
            if interruption.requested:
                raise Interrupted(
                    "compare: begins anew with --resume; what was scanned is kept", interruption.exit_code
                )
    except BaseException:
        progress.finish(None)
        raise
    progress.finish({})


class _Rows:
    """All rows of a file by their numbers, in what the scan wrote of them."""

    def __init__(
        self, source: LinesSource, blocks: Sequence[Block], scans: Sequence[dict[str, Any]], folder: Path
    ) -> None:
        self._source, self._blocks, self._scans, self._folder = source, blocks, scans, folder
        self.starts = np.concatenate([[0], np.cumsum([scan["rows"] for scan in scans])]).astype(np.int64)
        """The number of the first row of each block, and of all rows."""
        self._reader = source.reader()
        self._places = np.concatenate([self._load("places", block.number) for block in blocks])

    def alive(self) -> NDArray[np.bool_]:
        """Rows that no filter took out."""
        alive = np.ones(int(self.starts[-1]), bool)
        for start, scan in zip(self.starts, self._scans, strict=False):
            alive[[int(start) + int(place) for place in scan["out"]]] = False
        return alive

    def keys(self) -> NDArray[np.uint64]:
        """What exact copies share, `[N, 2]`; different for every row that is out."""
        keys: NDArray[np.uint64] = np.concatenate([self._load("keys", block.number) for block in self._blocks])
        out = np.flatnonzero(~self.alive())
        keys[out, 0], keys[out, 1] = np.uint64(0), out.astype(np.uint64)
        return keys

    def band(self, number: int) -> Hashes:
        """One key of every row, `[N]`."""
        keys: Hashes = np.concatenate([np.array(self._load("bands", b.number, "r")[number]) for b in self._blocks])
        return keys

    def bands(self) -> Iterator[tuple[int, Hashes]]:
        """All keys, `[bands, n]`, block by block, with the number of its first row."""
        for start, block in zip(self.starts, self._blocks, strict=False):
            yield int(start), self._load("bands", block.number)

    def line_number(self, row: int) -> int:
        """Where a row stands in the file."""
        return int(self._places[row, 0])

    def grams(self, row: int) -> Hashes:
        """The n-grams of a row, read anew."""
        number, start, length = map(int, self._places[row])
        with self._source.path.open("rb") as file:
            file.seek(start)
            raw = file.read(length + 3 if start == 0 else length).removeprefix(b"\xef\xbb\xbf")[:length]
        line = Line(number, start, raw)
        return distinct_grams(self._reader.read(line.number, line.raw).texts, SHINGLE)

    def _load(self, name: str, number: int, mode: Any = None) -> Any:
        return np.load(block_file(self._folder, f"scan-{name}", number, ".npy"), mmap_mode=mode, allow_pickle=False)
