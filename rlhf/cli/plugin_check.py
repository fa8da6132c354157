"""`rlhf plugins check`: hold a plugin to the contract, in a process of its own."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json

if TYPE_CHECKING:
    from rlhf.testing.findings import Finding


def check_plugin(
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="PLUGIN", help="A package's folder, an installed plugin's name, FILE.py or FILE.py:FUNCTION."
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART.key=value ...]", help="Options of its parts, as in kindness.words=20."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows its parts are meant for, with the columns they need (docs/data.md)."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds one check may take.")] = 60.0,
    json: JsonOption = False,
) -> None:
    """Check that a plugin loads, that its options hold, and that its rewards and graders keep their contract.

    Without --data, rows are a few everyday questions with answers, where `reference` is the answer itself; a part that
    needs another column is skipped, and says which. Exit 1 if a check failed.
    """
    from rlhf.testing.plugin_check import check_target

    found: list[Finding] = []
    with output_to_stderr(json):
        for finding in check_target(plugin, _by_part(options or ()), data, timeout):
            found.append(finding)
            if not json:
                _print(finding)
    counts = Counter(finding.outcome for finding in found)
    if json:
        findings = [dataclasses.asdict(finding) for finding in found]
        print_json({"plugin": plugin, "ok": not counts["failed"], "counts": dict(counts), "checks": findings})
    else:
        typer.echo(f"{counts['ok']} ok, {counts['failed']} failed, {counts['skipped']} skipped")
    if counts["failed"]:
        raise typer.Exit(1)


def _by_part(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`PART.key=value` words as options by part."""
    from rlhf.errors import ConfigError
    from rlhf.recipe_file import apply_overrides, parse_override

    overrides = dict(parse_override(word) for word in words)
    for key in overrides:
        if "." not in key:
            raise ConfigError(f"option {key!r}: say whose it is, as in PART.{key}=VALUE")
    return apply_overrides({}, overrides)


def _print(finding: Finding) -> None:
    """A line at once: a check may take a while, and the next one may hang."""
    cause = f"  {finding.cause}" if finding.cause else ""
    typer.echo(f"{finding.outcome:<7}  {finding.part:<24}  {finding.check:<20}{cause}".rstrip())
