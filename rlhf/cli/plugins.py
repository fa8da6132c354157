"""`rlhf plugins`: what is loaded, what it adds, and what is broken."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json

if TYPE_CHECKING:
    from rlhf.plugins import PluginInfo

app = typer.Typer(no_args_is_help=True, help="List the plugins of this environment.")


@app.callback()
def plugins() -> None:
    """Keep `list` a command of its own: without this, typer would take a lone command's place."""


@app.command("list")
def list_plugins(json: JsonOption = False, plugin: PluginOption = None) -> None:
    """Every plugin: where it is from, the parts and hooks it adds, and the error of one that is broken."""
    from rlhf.plugins import PluginSettings, load_plugins

    with output_to_stderr(json):
        infos = load_plugins(PluginSettings(paths=tuple(plugin or ()))).infos
    if json:
        print_json({"plugins": [dataclasses.asdict(info) for info in infos]})
        return
    for info in infos:
        typer.echo(f"{info.name}  ({info.origin}){'  BROKEN' if info.error else ''}")
        for line in _details(info):
            typer.echo(f"    {line}")


def _details(info: PluginInfo) -> list[str]:
    if info.error:
        return [f"error: {info.error}"]
    watching = [hook for hook in info.hooks if not hook.startswith("register_")]
    return [*info.parts, *(["hooks: " + ", ".join(watching)] if watching else [])]
