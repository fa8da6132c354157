"""`rlhf data convert`: rows from one format or kind of file into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlhf.cli.data_options import (
    AddressOption,
    ColumnOption,
    FileArgument,
    FormatOption,
    ResumeOption,
    RuntimeOption,
    WorkersOption,
    place_for,
    row_format,
)
from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json


def convert(
    file: FileArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new .jsonl or .parquet.")],
    to: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="A format of docs/data.md; as it is where absent.")
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be converted, and count them.")
    ] = False,
    format_name: FormatOption = None,
    column: ColumnOption = None,
    resume: ResumeOption = False,
    runtime: RuntimeOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Convert rows between the formats that recipes read, and between kinds of file.

    What the new format has no place for is an error with its line, never left out in silence.
    """
    from rlhf.runtime.data_jobs.converting import convert as run

    place = place_for(file, runtime, address, workers)
    with output_to_stderr(json):
        found = run(file, out, to, row_format(format_name, column), place, skip_bad_rows=skip_bad_rows, resume=resume)
    if json:
        print_json(found.as_dict())
        return
    typer.echo(f"{found.written:,} rows of format {found.from_format} written as {found.to_format} to {found.out}")
    if found.skipped:
        typer.echo(f"left out {found.skipped:,} rows; the first: {found.first_fault}", err=True)
