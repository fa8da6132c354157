"""`rlhf data check`: what is wrong with a file of rows, with lines to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.data_options import (
    AddressOption,
    AgainstOption,
    ColumnOption,
    FileArgument,
    FormatOption,
    RuntimeOption,
    WorkersOption,
    place_for,
    row_format,
)
from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table

if TYPE_CHECKING:
    from rlhf.runtime.data_jobs.checking import Checked


def check(
    file: FileArgument,
    against: AgainstOption = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Measure lengths in tokens of this model.", show_default=False)
    ] = None,
    format_name: FormatOption = None,
    column: ColumnOption = None,
    runtime: RuntimeOption = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Look for bad rows, copies, contradictions, garbled text, contamination and imbalance; nothing is changed.

    Exit 1 where there are problems; hints alone are exit 0.
    """
    from rlhf.runtime.data_jobs.checking import CheckOptions
    from rlhf.runtime.data_jobs.checking import check as run

    place = place_for(file, runtime, address, workers)
    with output_to_stderr(json):
        found = run(file, CheckOptions(tuple(against or ()), tokenizer), row_format(format_name, column), place)
    if json:
        print_json(found.as_dict())
    else:
        _print(found)
    if found.has_problems:
        raise typer.Exit(1)


def _print(found: Checked) -> None:
    from rlhf.data.curation.row_checks import KINDS

    typer.echo(f"{found.file}: {found.rows:,} rows of format {found.row_format}, {found.readable:,} of them readable")
    for severity in ("problem", "hint"):
        for kind, findings in found.findings.items():
            known = KINDS[kind]
            if known.severity == severity:
                typer.echo(f"\n{severity}: {kind}: {findings['count']:,} {known.meaning}; {known.advice}")
                for item in findings["examples"]:
                    typer.echo(f"  line {item['line']}: {item['details']}")
    typer.echo("")
    print_balance(found.balance, found.hints, found.unit)
    if not found.has_problems:
        typer.echo("no problems found")


def print_balance(balance: Mapping[str, Any], hints: Sequence[str], unit: str = "characters") -> None:
    """Lengths, languages, verdicts and categories, and what is out of balance."""
    lengths = balance["lengths"]
    if lengths:
        names = ["mean", "p5", "p25", "p50", "p75", "p95", "p99", "max"]
        rows = [[side, *(f"{found[name]:,.0f}" for name in names)] for side, found in lengths.items()]
        print_table([unit, *names], rows)
    if "languages" in balance:
        typer.echo(f"languages: {_counts(balance['languages'])}")
    if "longer_side" in balance:
        typer.echo("longer side: " + ", ".join(f"{side} {share:.0%}" for side, share in balance["longer_side"].items()))
    if "labels" in balance:
        typer.echo(f"labels: {_counts(balance['labels'])}")
    for name, counts in balance.get("categories", {}).items():
        typer.echo(f"{name}: {_counts(counts)}")
    for hint in hints:
        typer.echo(f"hint: {hint}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
