"""`rlhf data curate`: bad, unwanted, contaminated and repeated rows out of a file of any size, each with its reason.

Three stages: `scan` reads every row and decides what needs no other row; `compare` finds copies; `sort` asks graders
and writes. Same rows, same options: same bytes, wherever it runs and however often it was killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from rlhf.data.curation.contamination import EvaluationItems
from rlhf.data.curation.language import known_languages, require_installed
from rlhf.data.curation.minhash import Banding
from rlhf.data.curation.row_stats import RowStats
from rlhf.errors import ConfigError, DataError, nearest
from rlhf.runtime.data_jobs.block_runs import Place, at_work, run_blocks
from rlhf.runtime.data_jobs.comparing import find_duplicates
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file, join_files, write_json
from rlhf.runtime.data_jobs.judging import KeepRule, build_judge
from rlhf.runtime.data_jobs.lines_source import RowFormat, open_source, require_file
from rlhf.runtime.data_jobs.scanning import RowFilters, ScanWork
from rlhf.runtime.data_jobs.sorting_out import SortWork


@dataclass(frozen=True)
class CurateOptions:
    """What is kept."""

    filters: RowFilters = field(default_factory=RowFilters)
    near_duplicates: float | None = 0.7
    """Jaccard similarity of the sets of three-word sequences from which on a row is a copy; None: only exact ones."""
    evaluation: tuple[str, ...] = ()
    """Evaluation sets that no row may hold items of."""
    keep: tuple[KeepRule, ...] = ()
    plugin_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curated:
    """What came of it."""

    out: Path
    removed_file: Path
    report_file: Path
    rows: int
    kept: int
    removed: dict[str, int]
    """By filter, in the order they are applied."""
    balance: dict[str, Any]
    hints: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = asdict(self)
        return told | {name: str(told[name]) for name in ("out", "removed_file", "report_file")}


def curate(
    file: Path, out: Path, options: CurateOptions, row_format: RowFormat, place: Place, *, resume: bool = False
) -> Curated:
    """Write the rows that stay to `out`, the others beside it, and a report.

    Raises `UserError` for what cannot be done, before any row is read where that is known.
    """
    path = require_file(file)
    require_sense(options, out)
    inputs = [path, *(Path(name).absolute() for name in options.evaluation)]
    settings = asdict(options) | {"row_format": asdict(row_format)}
    folder = JobFolder(out.absolute(), settings, inputs, resume=resume)
    source, blocks = open_source(path, row_format, folder)
    if options.evaluation:
        _read_evaluation(options.evaluation, folder)
    banding = Banding.for_threshold(options.near_duplicates) if options.near_duplicates is not None else None
    scan = ScanWork(source, folder.path, options.filters, banding, bool(options.evaluation))
    with at_work(place):
        scans = list(run_blocks(scan, blocks, folder, place))
        find_duplicates(source, blocks, scans, folder, banding, options.near_duplicates or 1.0)
        starts = tuple(accumulate((scan["rows"] for scan in scans), initial=0))
        sort = SortWork(source, folder.path, starts, options.keep, options.plugin_files)
        summaries = list(run_blocks(sort, blocks, folder, place))
    return _finish(folder, [block.number for block in blocks], summaries)


def require_sense(options: CurateOptions, out: Path) -> None:
    """Refuse options that cannot be meant, and judges that do not exist. Raises `UserError`."""
    threshold = options.near_duplicates
    if threshold is not None and not 0.3 <= threshold < 1:
        raise ConfigError(f"--near-duplicates {threshold:g}: a similarity from 0.3 to below 1, or --exact-only")
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: curated rows are JSON lines; write to a .jsonl, then `rlhf data convert` it")
    for name in options.evaluation:
        if not Path(name).is_file():
            raise DataError(f"--against: no such file {name!r}")
    if options.filters.languages:
        require_installed("--language")
        known = known_languages()
        for language in options.filters.languages:
            if language not in (*known, "und"):
                raise ConfigError(
                    f"--language {language}: no such language.{nearest(language, known)} As in en, de, zh."
                )
    for rule in options.keep:
        build_judge(rule.name, rule.options, options.plugin_files)


def _read_evaluation(paths: Sequence[str], folder: JobFolder) -> None:
    file = folder.path / "evaluation.npz"
    if not file.exists():
        scratch = folder.path / "evaluation.tmp.npz"
        EvaluationItems.read(paths).save(scratch)
        scratch.replace(file)


def _finish(folder: JobFolder, numbers: Sequence[int], summaries: Sequence[dict[str, Any]]) -> Curated:
    stats, removed = RowStats(), Counter[str]()
    for summary in summaries:
        stats.merge(summary["stats"])
        removed.update(summary["removed"])
    rows, kept = (sum(summary[name] for summary in summaries) for name in ("rows", "kept"))
    if not kept:
        raise DataError(
            f"none of {rows} rows is left: {_counts(removed)}. Loosen the filters; {folder.path} says more."
        )
    out = folder.out
    found = Curated(
        out=out,
        removed_file=out.with_suffix(".removed.jsonl"),
        report_file=out.with_suffix(".report.json"),
        rows=rows,
        kept=kept,
        removed=dict(sorted(removed.items(), key=lambda item: -item[1])),
        balance=stats.summary(),
        hints=stats.hints(),
    )
    join_files((block_file(folder.path, "removed", n, ".jsonl") for n in numbers), found.removed_file)
    write_json(found.report_file, found.as_dict())
    folder.require_unchanged()
    join_files((block_file(folder.path, "kept", n, ".jsonl") for n in numbers), out)  # last: where it is, all is done
    folder.remove()
    return found


def _counts(removed: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in removed.most_common())
