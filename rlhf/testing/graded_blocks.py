"""Graders over files larger than memory: block by block, each block's grades in a file, its figures in a summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlhf.data.curation.blocks import Block, read_block
from rlhf.data.curation.row_view import LineReader
from rlhf.data.files import SourceRow
from rlhf.data.formats import find_format
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.evaluation.statistics import Estimate, mean_interval
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.runtime.data_jobs.block_runs import Place, at_work, run_blocks
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file, join_files
from rlhf.runtime.data_jobs.lines_source import LinesSource, RowFormat, open_source, require_file
from rlhf.testing.building import build_judge
from rlhf.testing.rows import TriedRows, tried_row
from rlhf.testing.trying import Tried, try_judge
from rlhf.testing.verdicts import Judge

TellRow = Callable[[str, Judge, Tried], dict[str, Any]]
"""Grader's name, grader and verdict, as the row to write."""


@dataclass(frozen=True)
class NamedGraders:
    """Graders by name, with the options of the only one where there are some."""

    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    plugin_files: tuple[str, ...] = ()

    def build(self) -> dict[str, Judge]:
        """The graders. Raises `ConfigError` for one that does not exist, and for options it does not take."""
        registry = load_plugins(PluginSettings(paths=self.plugin_files)).registry
        return {name: build_judge(registry, registry.get("grader", name), self.options) for name in self.names}


@dataclass(frozen=True)
class GradeWork:
    """Writes the grades of a block's rows, and tells their figures."""

    source: LinesSource
    folder: Path
    graders: NamedGraders
    tell: TellRow
    stage: str = "grade"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        judges = self.graders.build()
        reader = self.source.reader()

        def process(block: Block) -> dict[str, Any]:
            rows = _rows(reader, self.source, block)
            told: dict[str, Any] = {"left_out": rows.left_out, "first_fault": rows.first_fault, "graders": {}}
            with block_file(self.folder, "grades", block.number, ".jsonl").open("wb") as file:
                for name, judge in judges.items() if rows.rows else ():
                    trial = try_judge(judge, rows, f"grader {name!r}")
                    for tried in trial.tried:
                        line = json.dumps(self.tell(name, judge, tried), ensure_ascii=False)
                        file.write(line.encode("utf-8", "backslashreplace") + b"\n")
                    told["graders"][name] = {
                        "axis": str(getattr(judge, "axis", "")),
                        "means": trial.row_means,
                        "shares": trial.shares_in_order,
                        "graded": len(trial.values),
                        "errors": trial.num_errors,
                        "broken": trial.num_faults,
                        "other_axis": trial.other_axis,
                    }
            return told

        return process


@dataclass
class GraderFigures:
    """Of all blocks: 16 bytes a row stay in memory, for the intervals."""

    axis: str = ""
    means: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    graded: int = 0
    errors: int = 0
    broken: int = 0
    other_axis: int = 0

    def add(self, told: Mapping[str, Any]) -> None:
        """The figures of one more block."""
        self.axis = told["axis"]
        self.means += told["means"]
        self.shares += told["shares"]
        for name in ("graded", "errors", "broken", "other_axis"):
            setattr(self, name, getattr(self, name) + told[name])

    @property
    def mean(self) -> Estimate | None:
        """Over prompts; None where nothing was graded."""
        return mean_interval(self.means) if self.means else None

    @property
    def in_order(self) -> Estimate | None:
        """Over rankings; None where there are none."""
        return mean_interval(self.shares) if self.shares else None


@dataclass(frozen=True)
class GradedFile:
    """What came of it."""

    figures: dict[str, GraderFigures]
    left_out: int
    first_fault: str


def grade_file(
    file: Path, out: Path, graders: NamedGraders, tell: TellRow, row_format: RowFormat, place: Place, *, resume: bool
) -> GradedFile:
    """Grade every completion of a file into `out`. Raises what `try_judge` raises; blocks that are done are kept."""
    path = require_file(file)
    graders.build()
    folder = JobFolder(out.absolute(), asdict(graders) | {"row_format": asdict(row_format)}, [path], resume=resume)
    source, blocks = open_source(path, row_format, folder)
    figures = {name: GraderFigures() for name in graders.names}
    left_out, first_fault = 0, ""
    with at_work(place):
        for told in run_blocks(GradeWork(source, folder.path, graders, tell), blocks, folder, place):
            left_out += told["left_out"]
            first_fault = first_fault or told["first_fault"]
            for name, of_block in told["graders"].items():
                figures[name].add(of_block)
    if not any(one.graded or one.errors or one.broken or one.other_axis for one in figures.values()):
        raise DataError(f"{file}: its rows hold no completions to judge; the first left out: {first_fault or 'none'}.")
    join_files((block_file(folder.path, "grades", block.number, ".jsonl") for block in blocks), folder.out)
    folder.remove()
    return GradedFile(figures, left_out, first_fault)


def _rows(reader: LineReader, source: LinesSource, block: Block) -> TriedRows:
    known, rows, faults = find_format(source.row_format), [], []
    for line in read_block(source.path, block):
        where = f"{source.name}, line {line.number}"
        try:
            values = reader.values(line.raw)
            rows.append(tried_row(known, SourceRow(values, f"{source.name}:{line.number}", where), values))
        except Fault as fault:
            faults.append(f"{where}: {fault}")
    return TriedRows(rows, len(faults), "".join(faults[:1]))


def chosen_graders(names: Sequence[str], options: Mapping[str, Any], plugin_files: Sequence[str]) -> NamedGraders:
    """Of a command line, where a grader may be FILE.py:NAME. Raises `DataError` for a file without a name."""
    files, found = list(plugin_files), []
    for name in names:
        file, colon, part = name.partition(".py:")
        if name.endswith(".py"):
            raise DataError(f"{name}: say which grader of it is meant, as in {name}:NAME")
        files += [f"{file}.py"] if colon else []
        found.append(part if colon else name)
    return NamedGraders(tuple(found), dict(options), tuple(files))
