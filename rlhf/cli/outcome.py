"""What a finished run is told with: the 3H table, and where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rlhf.cli.terminal import print_table

if TYPE_CHECKING:
    from rlhf.evaluation.statistics import Estimate
    from rlhf.runtime.result import RunResult


def print_outcome(result: RunResult) -> None:
    """The run's 3H scores with intervals, where it was evaluated, its model and its report."""
    print_three_h(result.folder)
    typer.echo(f"model:  {result.model}")
    typer.echo(f"report: {result.report}")


def print_three_h(folder: Path) -> None:
    """Each axis before and after; nothing where the run has no evaluation."""
    from rlhf.evaluation.run_folder import read_run
    from rlhf.evaluation.three_h import axis_rows, labels_of

    run = read_run(folder)
    rows = axis_rows(run)
    labels = [label for label in labels_of(run) if any(label in row.estimates for row in rows)]
    if not rows:
        return
    cells = [
        [row.name, *(estimate_text(row.estimates.get(label)) for label in labels), estimate_text(row.difference, "+")]
        for row in rows
    ]
    print_table(["", *labels, "change"] if len(labels) > 1 else ["", *labels, ""], cells)


def estimate_text(estimate: Estimate | None, sign: str = "") -> str:
    """`0.62 [0.58, 0.66]`, the brackets holding the 95 % interval."""
    if estimate is None:
        return ""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
