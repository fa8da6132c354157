"""`rlhf train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlhf.cli.options import OverrideArguments, PluginOption, RecipeArgument, read_overrides


def train(
    recipe: RecipeArgument,
    overrides: OverrideArguments = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; runs/NAME where absent.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in this folder.")] = False,
    strict_resume: Annotated[
        bool,
        typer.Option("--strict-resume", help="Continue it only where the rest is bit for bit what it would have been."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and plan everything, print the resolved recipe, and stop.")
    ] = False,
    runtime: Annotated[
        str | None, typer.Option(metavar="ray|inline", help="Actors and workers on Ray, or all in this process.")
    ] = None,
    plugin: PluginOption = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="A running Ray cluster, or `auto` for the one of this machine.")
    ] = None,
) -> None:
    """Run a recipe: one stage, or several in order, then the 3H evaluation where it asks for one."""
    from rlhf.cli.outcome import print_outcome
    from rlhf.runtime import pipeline
    from rlhf.runtime.preflight import require_fits

    changes = read_overrides(recipe, overrides, plugin)
    flags = {"runtime.type": runtime, "runtime.address": address}
    changes |= {key: value for key, value in flags.items() if value is not None}
    if dry_run:
        checked, plugins = pipeline.prepare(recipe, changes)
        typer.echo(require_fits(checked, plugins), err=True)
        typer.echo(checked.as_yaml(), nl=False)
        return
    print_outcome(pipeline.train(recipe, changes, out=out, resume=resume, strict_resume=strict_resume))
