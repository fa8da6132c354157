"""`rlhf submit`: the same recipe, as a job of a running cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf.cli.options import OverrideArguments, PluginOption, RecipeArgument, read_overrides


def submit(
    recipe: RecipeArgument,
    address: Annotated[
        str, typer.Option(metavar="URL", help="The cluster's dashboard, such as http://127.0.0.1:8265.")
    ],
    overrides: OverrideArguments = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print its log and leave with its result.")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The run's folder on the cluster: absolute or ~/..., shared by its machines if there are several.",
            show_default="~/runs/JOB, under the home of the user Ray runs as",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out DIR.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Send a recipe and its one-file plugins to a Ray cluster, which must have rlhf installed.

    Nothing else is sent: no data, no environment variables, no secrets. Data and model folders of the recipe are paths
    on the cluster. What was sent is kept in runs/submitted/JOB.
    """
    from rlhf.runtime.submission import follow_job, submit_recipe

    job = submit_recipe(recipe, read_overrides(recipe, overrides, plugin), address, out=out, resume=resume)
    typer.echo(f"job {job.id}, run folder on the cluster: {job.out}", err=True)
    typer.echo(f"the same with Ray's own command: {job.command}", err=True)
    if follow:
        follow_job(job.id, address, write=lambda text: typer.echo(text, nl=False))
    else:
        typer.echo(job.id)
