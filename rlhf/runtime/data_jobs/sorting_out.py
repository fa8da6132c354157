"""The last stage of curation: rows judged by graders, and written to those that stay or those that do not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlhf.data.curation.blocks import Block, Line, read_block
from rlhf.data.curation.row_stats import RowStats
from rlhf.data.curation.row_view import LineReader, RowView
from rlhf.runtime.data_jobs.job_folder import block_file
from rlhf.runtime.data_jobs.judging import Judge, KeepRule, build_judge, judged, rollout_of
from rlhf.runtime.data_jobs.lines_source import LinesSource
from rlhf.types import Rollout

Reasons = dict[int, tuple[str, str]]
"""By place in the block: the filter that took a row out, and why."""


@dataclass(frozen=True)
class SortWork:
    """Writes for each block the rows that stay, byte for byte, and those that do not, each with its reason."""

    source: LinesSource
    folder: Path
    starts: tuple[int, ...]
    """The number of the first row of each block."""
    rules: tuple[KeepRule, ...]
    plugin_files: tuple[str, ...] = ()
    stage: str = "sort"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        duplicates = np.load(self.folder / "duplicates.npy", allow_pickle=False)
        judges = [(rule, build_judge(rule.name, rule.options, self.plugin_files)) for rule in self.rules]
        reader = self.source.reader()

        def process(block: Block) -> dict[str, Any]:
            lines = read_block(self.source.path, block)
            reasons = self._scanned(block) | self._copies(block, len(lines), duplicates)
            views = _views(reader, lines, reasons)
            for rule, judge in judges:
                reasons |= _unfit(rule, judge, views)
                views = {place: view for place, view in views.items() if place not in reasons}
            self._write(block, lines, reasons)
            stats = RowStats()
            for view in views.values():
                stats.add(view)
            return {
                "rows": len(lines),
                "kept": len(views),
                "removed": dict(Counter(name for name, _ in reasons.values())),
                "stats": stats.as_dict(),
            }

        return process

    def _scanned(self, block: Block) -> Reasons:
        told = json.loads(block_file(self.folder, "scan", block.number, ".done").read_text("utf-8"))
        return {int(place): (name, why) for place, (name, why) in told["out"].items()}

    def _copies(self, block: Block, num_rows: int, duplicates: Any) -> Reasons:
        start = self.starts[block.number]
        first, end = np.searchsorted(duplicates["row"], [start, start + num_rows])
        found: Reasons = {}
        for row, line, similarity, is_exact in duplicates[first:end].tolist():
            alike = "the same as" if is_exact else f"{similarity:.0%} like"
            found[row - start] = ("duplicate" if is_exact else "near_duplicate", f"{alike} line {line}")
        return found

    def _write(self, block: Block, lines: Sequence[Line], reasons: Reasons) -> None:
        with ExitStack() as files:
            kept, removed = (
                files.enter_context(block_file(self.folder, name, block.number, ".jsonl").open("wb"))
                for name in ("kept", "removed")
            )
            for place, line in enumerate(lines):
                if place in reasons:
                    _write_removed(removed, line, *reasons[place])
                else:
                    kept.write(line.raw.rstrip(b"\r") + b"\n")


def _views(reader: LineReader, lines: Sequence[Line], reasons: Reasons) -> dict[int, RowView]:
    """Rows that are still in, by their places."""
    return {p: reader.read(line.number, line.raw) for p, line in enumerate(lines) if p not in reasons}


def _unfit(rule: KeepRule, judge: Judge, views: dict[int, RowView]) -> Reasons:
    """Rows that a rule takes out. A row without an answer is nothing a rule speaks of."""
    asked: dict[int, Rollout] = {p: r for p, view in views.items() if (r := rollout_of(view)) is not None}
    verdicts = judged(judge, rule.name, list(asked.values()))
    whys = ((place, rule.why_not(*verdict)) for place, verdict in zip(asked, verdicts, strict=True))
    return {place: (str(rule), why) for place, why in whys if why is not None}


def _write_removed(file: BinaryIO, line: Line, name: str, why: str) -> None:
    """The row within its reason, as it was; one that is no JSON as text."""
    told = json.dumps({"line": line.number, "filter": name, "reason": why}, ensure_ascii=False)
    try:
        json.loads(line.raw)
        row = line.raw.strip()
    except ValueError:
        row = json.dumps(line.raw.decode("utf-8", "backslashreplace")).encode()
    file.write(told[:-1].encode("utf-8", "backslashreplace") + b', "row": ' + row + b"}\n")
