"""report.html: one self-contained page that shows what a run did, or what several did side by side."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.errors import DataError
from rlhf.evaluation.curves import MAIN, main_curves, more_curves
from rlhf.evaluation.held_out import HeldOutFigure, held_out_figures, side_by_side
from rlhf.evaluation.page.render import render
from rlhf.evaluation.plots import interval_plot
from rlhf.evaluation.run_folder import RunRecord, StageRecord, read_run, stage_entries
from rlhf.evaluation.samples import along_the_way, fallen, first_of_each_axis
from rlhf.evaluation.three_h import MEAN_ROW, AxisRow, axis_rows, labels_of
from rlhf.evaluation.warnings import warnings_of

# What is no figure, of a stage's summary and of a logged step.
_OWN_PLACE = {"name", "algorithm", "seconds", "steps", "held_out", "step", "time", "stage", "nonfinite"}
_FEW = 4  # final figures shown of a stage that logs none of the usual ones


def write_report(run_folder: Path, path: Path | None = None) -> Path:
    """Write `path`, else `run_folder/report.html`, from the files of the run; the same files give the same bytes.

    What is missing is named on the page. Raises `DataError` where `run_folder` is no run at all.
    """
    run = read_run(run_folder)
    rows = axis_rows(run)
    labels = [label for label in labels_of(run) if any(label in row.estimates for row in rows)]
    text = render(
        "report.html.j2",
        run=run,
        stages=[_stage_view(run, stage) for stage in run.stages],
        held_out=_held_out(run),
        three_h=rows,
        labels=labels,
        three_h_plot=_plot({row.name: [(n, row.estimates[n]) for n in labels if n in row.estimates] for row in rows}),
        sample_labels=labels_of(run),
        pairs=first_of_each_axis(run),
        fallen=fallen(run),
        warnings=warnings_of(run),
    )
    return _write(path or run_folder / "report.html", text)


def write_comparison_report(run_folders: Sequence[Path], path: Path) -> Path:
    """Write one page on several runs: their final 3H scores in a table, their curves over each other."""
    runs = _named([read_run(folder) for folder in run_folders])
    finals = {name: _final_scores(run) for name, run in runs.items()}
    axes = list(dict.fromkeys(axis for scores in finals.values() for axis in scores))
    text = render(
        "comparison.html.j2",
        runs=runs,
        finals=finals,
        axes=axes,
        plot=_plot(
            {axis: [(name, scores[axis]) for name, scores in finals.items() if axis in scores] for axis in axes}
        ),
        held_out=side_by_side({name: _held_out(run) for name, run in runs.items()}),
        stages={name: main_curves(name, stages) for name, stages in _by_stage(runs).items()},
        warnings=[f"{name}: {warning}" for name, run in runs.items() for warning in warnings_of(run)],
    )
    return _write(path, text)


def curves_page(run_folder: Path) -> str:
    """The main curves of each stage as a page of its own, for a frame in a notebook."""
    run = read_run(run_folder)
    stages = {stage.name: main_curves(stage.name, {"": stage.metrics}) for stage in run.stages}
    return render("curves.html.j2", run=run, stages=stages)


def _stage_view(run: RunRecord, stage: StageRecord) -> dict[str, Any]:
    last = stage.metrics[-1] if stage.metrics else {}
    entry = _entry(run, stage) or last
    rows = {"": stage.metrics}
    figures = _flat({name: value for name, value in entry.items() if name not in _OWN_PLACE})
    key = [name for name in MAIN if name in figures] or list(figures)[:_FEW]
    return {
        "name": stage.name,
        "algorithm": entry.get("algorithm", stage.algorithm),
        "seconds": entry.get("seconds", last.get("time")),
        "steps": entry.get("steps", last.get("step")),
        "figures": {name: figures[name] for name in key},
        "other_figures": {name: value for name, value in figures.items() if name not in key},
        "curves": main_curves(stage.name, rows),
        "more": more_curves(stage.name, rows),
        "samples": along_the_way(stage),
    }


def _entry(run: RunRecord, stage: StageRecord) -> Mapping[str, Any]:
    """The stage's final figures: from the run's summary, or its own while the run goes on; empty until it ends."""
    own = {} if stage.summary is run.summary else stage.summary
    return next((entry for entry in stage_entries(run.summary) if entry.get("name") == stage.name), own)


def _held_out(run: RunRecord) -> list[HeldOutFigure]:
    return [figure for stage in run.stages for figure in held_out_figures(stage.name, _entry(run, stage))]


def _flat(table: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """Numbers, words and intervals of a nested table under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{lead}{key}.")
        elif value is not None:
            flat[f"{lead}{key}"] = value
    return flat


def _plot(rows: Mapping[str, Any]) -> Any:
    filled = {name: row for name, row in rows.items() if row}
    return interval_plot(filled, description="3H scores with 95 % intervals") if filled else None


def _final_scores(run: RunRecord) -> dict[str, Any]:
    """The scores of the model the run ended with: `after`, or the only model evaluated."""
    rows: list[AxisRow] = axis_rows(run)
    labels = labels_of(run)
    label = "after" if "after" in labels else (labels[-1] if labels else "")
    scores = {row.name: row.estimates[label] for row in rows if label in row.estimates}
    return {name: scores[name] for name in (MEAN_ROW, *scores) if name in scores}


def _named(runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Runs by folder name; where two share one, by as much of the path as tells them apart."""
    twice = [folder for folder, count in Counter(run.folder for run in runs).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]} was given twice; give each run once.")
    for depth in itertools.count(1):
        names = ["/".join(run.folder.parts[-depth:]) for run in runs]
        if len(set(names)) == len(runs):
            return dict(zip(names, runs, strict=True))
    raise AssertionError("different folders have different paths")


def _by_stage(runs: Mapping[str, RunRecord]) -> dict[str, dict[str, Sequence[Mapping[str, Any]]]]:
    stages: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for name, run in runs.items():
        for stage in run.stages:
            stages.setdefault(stage.name, {})[name] = stage.metrics
    return stages


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode("utf-8", "replace"))
    temporary.replace(path)
    return path
