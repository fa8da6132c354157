"""`rlhf grade`: grade the completions of a file on the axes of some graders, without training."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.data_options import AddressOption, ResumeOption, RuntimeOption, WorkersOption, place_for
from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table
from rlhf.cli.trial import (
    ColumnOption,
    LimitOption,
    OptionArguments,
    ShowOption,
    estimate_dict,
    find_judge,
    interval_text,
    print_trial,
    read_data,
    tried_dict,
    warn_left_out,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlhf.testing.rows import TriedRows
    from rlhf.testing.trying import Trial
    from rlhf.testing.verdicts import Judge


def grade(
    data: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Rows with completions: samples.jsonl, any format of docs/data.md."),
    ],
    options: OptionArguments = None,
    grader: Annotated[
        list[str], typer.Option(metavar="NAME", help="A grader by name; repeatable (options are then left out).")
    ] = [],  # noqa: B006 - typer reads it and nobody changes it
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every grade to it, as JSON lines.", show_default=False),
    ] = None,
    limit: LimitOption = None,
    show: ShowOption = 20,
    column: ColumnOption = None,
    resume: ResumeOption = False,
    runtime: RuntimeOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Grade completions: the mean of each grader with its 95 % interval over prompts, and the grades themselves.

    A row whose column `axis` names another axis than a grader's is passed over by it. Both sides of a pair are graded.
    A file of 64 MiB or more, and any with --runtime or --resume, is streamed: its grades go to --out alone.
    Exit 1 where a grade is none (no score in 0..1, an exception), or a grader graded nothing.
    """
    from rlhf.cli.grade_streamed import grade_streamed, is_streamed
    from rlhf.testing.trying import try_judge

    _require_sense(grader, options, out)
    if is_streamed(data, limit, resume, runtime, address, workers):
        place = place_for(data, runtime, address, workers)
        grade_streamed(data, options, grader, out, column, plugin, place, resume=resume, json=json)
        return
    with output_to_stderr(True):  # what a grader prints is not the answer
        rows = read_data(data, column, limit)
        judges = {name: find_judge("grader", name, options, plugin) for name in grader}
        trials = {name: try_judge(judge, rows, f"grader {name!r}") for name, judge in judges.items()}
    if out is not None:
        _write(out, trials, judges)
    if json:
        print_json(_as_dict(data, rows, trials, judges))
    else:
        warn_left_out(rows)
        _print(trials, judges, show, out)
    if any(trial.num_faults or not trial.values for trial in trials.values()):
        raise typer.Exit(1)


def _require_sense(graders: Sequence[str], options: Sequence[str] | None, out: Path | None) -> None:
    from rlhf.errors import ConfigError

    if not graders:
        raise ConfigError("give a grader, as in --grader NAME; `rlhf plugins list` shows those there are")
    if len(graders) > 1 and options:
        raise ConfigError(f"{' '.join(options)}: options are of one grader; grade with one at a time")
    if out is not None and out.exists():
        raise ConfigError(f"--out {out} exists; give another file")
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")


def _axis(judge: Judge) -> str:
    return str(getattr(judge, "axis", ""))


def _grades(name: str, trial: Trial, judge: Judge) -> list[dict[str, Any]]:
    return [{"grader": name, "axis": _axis(judge)} | tried_dict(tried) for tried in trial.tried]


def _write(out: Path, trials: Mapping[str, Trial], judges: Mapping[str, Judge]) -> None:
    grades = [row for name, trial in trials.items() for row in _grades(name, trial, judges[name])]
    lines = "".join(json_format.dumps(row, ensure_ascii=False) + "\n" for row in grades)
    out.write_bytes(lines.encode("utf-8", "backslashreplace"))


def _as_dict(data: Path, rows: TriedRows, trials: Mapping[str, Trial], judges: Mapping[str, Judge]) -> dict[str, Any]:
    graders = {
        name: {
            "axis": _axis(judges[name]),
            "mean": estimate_dict(trial.mean),
            "graded": len(trial.values),
            "errors": trial.num_errors,
            "broken": trial.num_faults,
            "other_axis": trial.other_axis,
            "chosen_over_rejected": estimate_dict(trial.in_order),
        }
        for name, trial in trials.items()
    }
    grades = [row for name, trial in trials.items() for row in _grades(name, trial, judges[name])]
    return {"data": str(data), "rows_left_out": rows.left_out, "graders": graders, "grades": grades}


def _print(trials: Mapping[str, Trial], judges: Mapping[str, Judge], show: int, out: Path | None) -> None:
    for name, trial in trials.items():
        if len(trials) > 1 and show:
            typer.echo(f"{name}:")
        print_trial(trial, show)
        typer.echo("")
    rows = []
    for name, trial in trials.items():
        mean = interval_text(trial.mean) if trial.mean else "no grade"
        order = interval_text(trial.in_order) if trial.in_order else ""
        counts = [str(len(trial.values)), str(trial.num_errors + trial.num_faults), str(trial.other_axis)]
        rows.append([name, _axis(judges[name]), mean, *counts, order])
    headers = ["grader", "axis", "mean", "graded", "errors", "other axis", "chosen > rejected"]
    has_pairs = any(row[-1] for row in rows)
    print_table(headers if has_pairs else headers[:-1], rows if has_pairs else [row[:-1] for row in rows])
    if out is not None:
        typer.echo(f"grades: {out}")
