"""`rlhf report`: the page of a run, or one page on several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where a page on several runs goes.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Write report.html into a run's folder again, or compare several runs on one page."""
    from rlhf.evaluation.report import write_comparison_report, write_report

    page = write_report(runs[0]) if len(runs) == 1 else write_comparison_report(runs, out)
    typer.echo(f"report: {page}")
