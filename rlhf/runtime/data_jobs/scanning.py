"""The first stage of curation: rows read, what needs no other row decided, and what copies are found by noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf.data.curation.blocks import Block, Line, read_block
from rlhf.data.curation.contamination import EvaluationItems
from rlhf.data.curation.language import language_of
from rlhf.data.curation.minhash import Banding, MinHash
from rlhf.data.curation.row_view import RowView
from rlhf.data.turns import Fault
from rlhf.runtime.data_jobs.job_folder import block_file
from rlhf.runtime.data_jobs.lines_source import LinesSource

SHINGLE = 3
"""Words of which a row's likeness is made. Longer ones would miss short rows: of 20 words, a changed one takes 3 of 18
three-grams with it, and 5 of 16 five-grams.
"""


@dataclass(frozen=True)
class RowFilters:
    """What a row must be, whatever the other rows are."""

    min_characters: int = 1
    max_characters: int | None = None
    languages: tuple[str, ...] = ()

    def why_not(self, view: RowView, items: EvaluationItems | None) -> tuple[str, str] | None:
        """The filter that takes the row out, and why; None where it stays."""
        size = view.num_characters
        if size < self.min_characters or (self.max_characters is not None and size > self.max_characters):
            return "length", f"{size} characters"
        if self.languages:
            language = language_of(view.texts)
            if language not in self.languages:
                return "language", language
        overlap = items.find(view.question, view.grams) if items is not None else None
        return ("contamination", str(overlap)) if overlap is not None else None


@dataclass(frozen=True)
class ScanWork:
    """Writes for each block: which rows are out and why (`.done`), and of all rows the places and keys (`.npy`)."""

    source: LinesSource
    folder: Path
    filters: RowFilters
    banding: Banding | None
    has_evaluation: bool
    stage: str = "scan"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        items = EvaluationItems.load(self.folder / "evaluation.npz") if self.has_evaluation else None
        reader = self.source.reader()
        minhash = MinHash(self.banding) if self.banding is not None else None

        def process(block: Block) -> dict[str, Any]:
            lines = read_block(self.source.path, block)
            out: dict[int, tuple[str, str]] = {}
            keys = np.zeros((len(lines), 2), np.uint64)
            bands = np.zeros((self.banding.bands if self.banding else 0, len(lines)), np.uint64)
            for place, line in enumerate(lines):
                try:
                    view = reader.read(line.number, line.raw)
                except Fault as fault:
                    out[place] = ("bad_row", str(fault))
                    continue
                why = self.filters.why_not(view, items)
                if why is not None:
                    out[place] = why
                    continue
                keys[place] = view.key()
                if minhash is not None:
                    bands[:, place] = minhash.keys(view.grams.of(SHINGLE))
            self._write(block, lines, keys, bands)
            return {"rows": len(lines), "out": out}

        return process

    def _write(self, block: Block, lines: Sequence[Line], keys: Any, bands: Any) -> None:
        places = np.array([(line.number, line.start, len(line.raw)) for line in lines], np.int64).reshape(-1, 3)
        for name, array in (("places", places), ("keys", keys), ("bands", bands)):
            np.save(block_file(self.folder, f"scan-{name}", block.number, ".npy"), array)
