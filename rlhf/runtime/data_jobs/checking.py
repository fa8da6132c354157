"""`rlhf data check`: what is wrong with a file of rows, with examples; nothing is changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf.data.curation import language
from rlhf.data.curation.blocks import Block, read_block
from rlhf.data.curation.contamination import EvaluationItems
from rlhf.data.curation.row_checks import KINDS, example, findings_in, kind_of_fault
from rlhf.data.curation.row_stats import RowStats
from rlhf.data.curation.row_view import RowView
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.runtime.data_jobs.block_runs import Place, at_work, run_blocks
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file
from rlhf.runtime.data_jobs.lines_source import LinesSource, RowFormat, open_source, require_file
from rlhf.runtime.data_jobs.repeated import repetitions

EXAMPLES = 3
"""Of each kind, the first."""

Findings = dict[str, dict[str, Any]]
"""By kind: `count`, and `examples` with line and details."""


@dataclass(frozen=True)
class CheckOptions:
    """What is looked for besides what every row is asked."""

    evaluation: tuple[str, ...] = ()
    tokenizer: str | None = None
    """Measure lengths in tokens of this model."""


@dataclass(frozen=True)
class CheckWork:
    """Tells for each block its findings and counts, and writes what repetitions are found by."""

    source: LinesSource
    folder: Path
    options: CheckOptions
    stage: str = "check"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        has_evaluation = bool(self.options.evaluation)
        items = EvaluationItems.load(self.folder / "evaluation.npz") if has_evaluation else None
        reader, length = self.source.reader(), _length(self.options.tokenizer)
        tells_language = language.is_installed()

        def process(block: Block) -> dict[str, Any]:
            findings: Findings = {}
            stats = RowStats(length)
            keys = []
            lines = read_block(self.source.path, block)
            for line in lines:
                try:
                    view = reader.read(line.number, line.raw)
                except Fault as fault:
                    add(findings, kind_of_fault(str(fault)), line.number, str(fault))
                    continue
                stats.add(view, language.language_of(view.texts) if tells_language else None)
                for kind, details in findings_in(view):
                    add(findings, kind, line.number, details)
                overlap = items.find(view.question, view.grams) if items is not None else None
                if overlap is not None:
                    add(findings, "contamination", line.number, str(overlap))
                keys.append((line.number, *_keys(view)))
            np.save(block_file(self.folder, "keys", block.number, ".npy"), np.array(keys, np.uint64).reshape(-1, 7))
            return {"rows": len(lines), "findings": findings, "stats": stats.as_dict()}

        return process


@dataclass(frozen=True)
class Checked:
    """What was found."""

    file: Path
    row_format: str
    rows: int
    readable: int
    unit: str
    findings: Findings
    balance: dict[str, Any]
    hints: list[str]

    @property
    def has_problems(self) -> bool:
        """Whether something makes the data unfit as it is."""
        return any(KINDS[kind].severity == "problem" for kind in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {
            kind: {"severity": KINDS[kind].severity, "meaning": KINDS[kind].meaning, "advice": KINDS[kind].advice}
            | found
            for kind, found in self.findings.items()
        }
        return {
            "data": str(self.file),
            "format": self.row_format,
            "rows": self.rows,
            "readable": self.readable,
            "length_unit": self.unit,
            "has_problems": self.has_problems,
            "findings": told,
            "balance": self.balance,
            "hints": self.hints,
        }


def check(file: Path, options: CheckOptions, row_format: RowFormat, place: Place) -> Checked:
    """Look at every row of a file. Raises `DataError` for one that cannot be read, or is of no known format."""
    path = require_file(file)
    for name in options.evaluation:
        if not Path(name).is_file():
            raise DataError(f"--against: no such file {name!r}")
    _length(options.tokenizer)
    with tempfile.TemporaryDirectory(prefix="rlhf-check-") as scratch:
        folder = JobFolder(Path(scratch) / "check", {}, [path], resume=False)
        source, blocks = open_source(path, row_format, folder)
        if options.evaluation:
            EvaluationItems.read(options.evaluation).save(folder.path / "evaluation.npz")
        findings: Findings = {}
        stats = RowStats()
        rows = 0
        with at_work(place):
            summaries = list(run_blocks(CheckWork(source, folder.path, options), blocks, folder, place))
        for summary in summaries:
            rows += summary["rows"]
            stats.merge(summary["stats"])
            for kind, found in summary["findings"].items():
                add_all(findings, kind, found["count"], found["examples"])
        keys = np.concatenate([np.load(block_file(folder.path, "keys", b.number, ".npy")) for b in blocks])
        for kind, count, examples in repetitions(keys, EXAMPLES):
            add_all(findings, kind, count, examples)
    return Checked(
        file=file,
        row_format=source.row_format,
        rows=rows,
        readable=stats.rows,
        unit="tokens" if options.tokenizer else "characters",
        findings={kind: findings[kind] for kind in KINDS if kind in findings},
        balance=stats.summary(),
        hints=stats.hints(),
    )


def add(findings: Findings, kind: str, line: int, details: str) -> None:
    """Count a finding, with an example while there are few."""
    add_all(findings, kind, 1, [example(line, details)])


def add_all(findings: Findings, kind: str, count: int, examples: Sequence[dict[str, Any]]) -> None:
    """Count findings of one kind; lines come in order."""
    mine = findings.setdefault(kind, {"count": 0, "examples": []})
    mine["count"] += count
    mine["examples"] = [*mine["examples"], *examples][:EXAMPLES]


def _keys(view: RowView) -> tuple[int, ...]:
    """What repetitions are found by: the row (two halves), its prompt, what is judged, the verdict, the best answer."""
    high, low = view.key()
    return high, low, view.prompt_key() if view.prompt else 0, *view.judged_key(), view.answer_key()


def _length(tokenizer: str | None) -> Callable[[str], int]:
    """Characters, or tokens of this model. Raises `ConfigError` where it has no tokenizer."""
    if tokenizer is None:
        return len
    from rlhf.config import ModelConfig
    from rlhf.data.tokenizers import load_tokenizer
    from rlhf.runtime.models import require_model

    require_model(ModelConfig(path=tokenizer))
    loaded = load_tokenizer(tokenizer)
    return lambda text: len(loaded.encode(text, add_special_tokens=False))
