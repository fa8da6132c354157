"""`rlhf data curate`: what a file should not teach, taken out, each row with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.data_options import (
    AddressOption,
    AgainstOption,
    ColumnOption,
    FileArgument,
    FormatOption,
    ResumeOption,
    RuntimeOption,
    WorkersOption,
    place_for,
    row_format,
)
from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table

if TYPE_CHECKING:
    from rlhf.runtime.data_jobs.curating import Curated

JudgeOptions = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME.key=value ...]", help="Options of what --keep names: refusal.path=graders/refusal."),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE", help="What the best answer must score: 'refusal<0.5'. A grader or reward. Repeatable."
    ),
]


def curate(
    file: FileArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new .jsonl for the rows that stay.")],
    options: JudgeOptions = None,
    near_duplicates: Annotated[
        float, typer.Option(metavar="S", help="Jaccard similarity from which on a row is a copy.")
    ] = 0.7,
    exact_only: Annotated[bool, typer.Option("--exact-only", help="Only exact copies are duplicates.")] = False,
    min_chars: Annotated[int, typer.Option(min=0, metavar="N", help="Shortest row, all its texts together.")] = 1,
    max_chars: Annotated[int | None, typer.Option(min=1, metavar="N", help="Longest row.", show_default=False)] = None,
    language: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Languages that stay, as in en; `und`: too short to tell.")
    ] = None,
    keep: KeepOption = None,
    against: AgainstOption = None,
    format_name: FormatOption = None,
    column: ColumnOption = None,
    resume: ResumeOption = False,
    runtime: RuntimeOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Remove bad, unwanted, contaminated and repeated rows. Filters apply in the order bad rows, length, language,
    contamination, exact copies, near copies, graders.

    Rows stay byte for byte and in order. Beside OUT lie what was removed, each row with its reason
    (.removed.jsonl), and the figures (.report.json).
    """
    from rlhf.recipe_file import apply_overrides, parse_override
    from rlhf.runtime.data_jobs.curating import CurateOptions
    from rlhf.runtime.data_jobs.curating import curate as run
    from rlhf.runtime.data_jobs.judging import read_rules
    from rlhf.runtime.data_jobs.scanning import RowFilters

    given: dict[str, Any] = apply_overrides({}, dict(parse_override(word) for word in options or ()))
    chosen = CurateOptions(
        filters=RowFilters(min_chars, max_chars, tuple(language or ())),
        near_duplicates=None if exact_only else near_duplicates,
        evaluation=tuple(against or ()),
        keep=read_rules(keep or (), given),
        plugin_files=tuple(plugin or ()),
    )
    place = place_for(file, runtime, address, workers)
    with output_to_stderr(True):  # what a grader prints is not the answer
        found = run(file, out, chosen, row_format(format_name, column), place, resume=resume)
    if json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Curated) -> None:
    from rlhf.cli.data_check import print_balance

    rows = [[name, f"{count:,}", f"{count / found.rows:.2%}"] for name, count in found.removed.items()]
    print_table(["", "rows", "share"], [*rows, ["kept", f"{found.kept:,}", f"{found.kept / found.rows:.2%}"]])
    typer.echo("")
    print_balance(found.balance, found.hints)
    typer.echo(f"kept:    {found.out}\nremoved: {found.removed_file}\nreport:  {found.report_file}")
