"""`rlhf report`: the page of a run, or one page on several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_COMPARISON = Path("comparison.html")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the page goes: RUN/report.html of one run, comparison.html of several."
        ),
    ] = None,
) -> None:
    """Write report.html into a run's folder again, or compare several runs on one page."""
    from rlhf.errors import ConfigError
    from rlhf.evaluation.report import write_comparison_report, write_report

    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give the file to write, {out / 'report.html'} for instance.")
    page = write_report(runs[0], out) if len(runs) == 1 else write_comparison_report(runs, out or _COMPARISON)
    typer.echo(f"report: {page}")
