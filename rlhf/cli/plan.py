"""`rlhf plan`: what a recipe will need, before it costs anything."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf.cli.options import JsonOption, OverrideArguments, PluginOption, RecipeArgument, read_overrides


def plan(
    recipe: RecipeArgument,
    overrides: OverrideArguments = None,
    json_: JsonOption = False,
    peak_tflops: Annotated[
        float | None,
        typer.Option("--peak-tflops", metavar="X", min=0.001, help="Peak of a device in TFLOP/s, to reckon the time."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's pace on one and two layers of each model.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="NxSIZE", help="Plan for N GPUs of this memory instead, as in 8x80GB.", show_default=False
        ),
    ] = None,
    plugin: PluginOption = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Plan for this running Ray cluster; `auto` for this machine's.")
    ] = None,
    all_settings: Annotated[bool, typer.Option("--all", help="Show settings left at their defaults too.")] = False,
) -> None:
    """Work out what a recipe needs: batches, devices, memory in each phase, operations, time, storage.

    Reads configurations, never weights. Leaves with 2 where the recipe cannot run, and says what would fit.
    """
    from rlhf.cli.exit_codes import BAD_INPUT
    from rlhf.cli.plan_page import as_json, print_page
    from rlhf.cli.terminal import output_to_stderr, print_json
    from rlhf.plugins import load_plugins
    from rlhf.recipe import check_parts, load_recipe
    from rlhf.runtime.origins import settings_of
    from rlhf.runtime.preflight import machine_for, machine_named, plan_recipe

    changes = read_overrides(recipe, overrides, plugin)
    if address is not None:
        changes["runtime.address"] = address
    with output_to_stderr(json_):
        loaded = load_recipe(recipe, changes)
        plugins = load_plugins(loaded.plugins)
        plugins.require_healthy()
        check_parts(loaded, plugins)
        machine = machine_named(devices) if devices is not None else machine_for(loaded.runtime)
        peak = None if peak_tflops is None else peak_tflops * 1e12
        report = plan_recipe(loaded, plugins, machine, peak=peak, measure=measure)
        settings = settings_of(loaded, recipe, changes)
    if json_:
        print_json(as_json(report, settings))
    else:
        print_page(report, settings, all_settings=all_settings)
    if report.refusals:
        for line in report.refusals:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(BAD_INPUT)
