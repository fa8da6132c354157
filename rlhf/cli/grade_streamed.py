"""`rlhf grade` over a file larger than memory: figures on the screen, grades in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rlhf.cli.data_options import row_format
from rlhf.cli.terminal import output_to_stderr, print_json, print_table
from rlhf.cli.trial import estimate_dict, interval_text, tried_dict

if TYPE_CHECKING:
    from rlhf.runtime.data_jobs.block_runs import Place
    from rlhf.testing.graded_blocks import GradedFile, GraderFigures
    from rlhf.testing.trying import Tried
    from rlhf.testing.verdicts import Judge

_LARGE = 64 * 2**20
"""Bytes; a smaller file is graded in memory, and its grades are shown."""


def is_streamed(data: Path, limit: int | None, resume: bool, *place: object) -> bool:
    """Whether a file is graded block by block: where it is large and read to its end, or it is asked for."""
    asked = resume or any(word is not None for word in place)
    return asked or (limit is None and data.is_file() and data.stat().st_size >= _LARGE)


def grade_streamed(
    data: Path,
    options: Sequence[str] | None,
    graders: Sequence[str],
    out: Path | None,
    columns: Sequence[str] | None,
    plugin_files: Sequence[str] | None,
    place: Place,
    *,
    resume: bool,
    json: bool,
) -> None:
    """Grade the file, show the figures, and exit with 1 where a grade is none or a grader graded nothing."""
    from rlhf.errors import ConfigError
    from rlhf.recipe_file import apply_overrides, parse_override
    from rlhf.testing.graded_blocks import chosen_graders, grade_file

    if out is None:
        raise ConfigError(f"{data} is graded block by block: say with --out FILE where its grades go")
    given: Mapping[str, Any] = apply_overrides({}, dict(parse_override(word) for word in options or ()))
    chosen = chosen_graders(graders, given, plugin_files or ())
    with output_to_stderr(True):  # what a grader prints is not the answer
        found = grade_file(data, out, chosen, grade_row, row_format(None, columns), place, resume=resume)
    if json:
        told = {name: _figures_dict(figures) for name, figures in found.figures.items()}
        print_json({"data": str(data), "rows_left_out": found.left_out, "graders": told, "grades": str(out)})
    else:
        _print(found, out)
    if any(figures.broken or not figures.graded for figures in found.figures.values()):
        raise typer.Exit(1)


def grade_row(name: str, judge: Judge, tried: Tried) -> dict[str, Any]:
    """A grade as the file has it."""
    return {"grader": name, "axis": str(getattr(judge, "axis", ""))} | tried_dict(tried)


def _figures_dict(figures: GraderFigures) -> dict[str, Any]:
    return {
        "axis": figures.axis,
        "mean": estimate_dict(figures.mean),
        "graded": figures.graded,
        "errors": figures.errors,
        "broken": figures.broken,
        "other_axis": figures.other_axis,
        "chosen_over_rejected": estimate_dict(figures.in_order),
    }


def _print(found: GradedFile, out: Path) -> None:
    if found.left_out:
        typer.echo(f"rows left out: {found.left_out}; the first: {found.first_fault}", err=True)
    rows = []
    for name, one in found.figures.items():
        mean = interval_text(one.mean) if one.mean else "no grade"
        counts = [str(one.graded), str(one.errors + one.broken), str(one.other_axis)]
        rows.append([name, one.axis, mean, *counts, interval_text(one.in_order) if one.in_order else ""])
    print_table(["grader", "axis", "mean", "graded", "errors", "other axis", "chosen > rejected"], rows)
    typer.echo(f"grades: {out}")
