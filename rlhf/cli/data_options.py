"""Options that the commands over files of rows share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rlhf.runtime.data_jobs.block_runs import Place
    from rlhf.runtime.data_jobs.lines_source import RowFormat

FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Rows: .jsonl, .json, .csv, .parquet or .txt, in a format of docs/data.md."),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="The rows' format; told from the first row where absent.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="A column of another name: completion=answer. Repeatable."),
]
AgainstOption = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="FILE", help="An evaluation set that no row may hold items of. Repeatable."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the same command was stopped or killed.")]
RuntimeOption = Annotated[
    str | None,
    typer.Option(metavar="ray|inline", help="Ray Data, or this process; by the file's size where absent."),
]
AddressOption = Annotated[
    str | None, typer.Option(metavar="ADDR", help="A running Ray cluster that sees the same files.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processes on Ray; one a CPU where absent.")
]

_WORTH_STARTING_RAY = 256 * 2**20
"""Bytes; a smaller file is done before Ray has started."""


def place_for(file: Path, runtime: str | None, address: str | None, workers: int | None) -> Place:
    """Where to work on a file. Raises `ConfigError` for what is neither, and where Ray is asked for and missing."""
    import importlib.util

    from rlhf.errors import ConfigError, nearest
    from rlhf.runtime.data_jobs.block_runs import Place

    kinds = ("ray", "inline")
    if runtime is not None and runtime not in kinds:
        raise ConfigError(f"--runtime {runtime}: ray or inline.{nearest(runtime, kinds)}")
    has_ray = importlib.util.find_spec("ray") is not None
    is_large = file.is_file() and file.stat().st_size >= _WORTH_STARTING_RAY
    chosen = runtime or ("ray" if address or workers or (is_large and has_ray) else "inline")
    if chosen == "inline" and (address or workers):
        raise ConfigError(f"{'--address' if address else '--workers'} is of --runtime ray, and inline is asked for")
    if chosen == "ray" and not has_ray:
        raise ConfigError("--runtime ray needs Ray: pip install 'rlhf[ray]'")
    return Place("ray" if chosen == "ray" else "inline", address, workers)


def row_format(name: str | None, words: Sequence[str] | None) -> RowFormat:
    """--format and --column. Raises `ConfigError` for what is malformed, `DataError` for an unknown format."""
    from rlhf.data.formats import find_format
    from rlhf.errors import ConfigError
    from rlhf.runtime.data_jobs.lines_source import RowFormat

    if name is not None:
        find_format(name)
    columns = []
    for word in words or ():
        ours, separator, theirs = word.partition("=")
        if not (ours and separator and theirs):
            raise ConfigError(f"--column {word}: write OURS=THEIRS, as in completion=answer")
        columns.append((ours, theirs))
    return RowFormat(name, tuple(columns))
