"""`rlhf plugins`: what is loaded, what it adds, and what is broken; make one, and check one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli import plugin_check, plugin_new
from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table

if TYPE_CHECKING:
    from rlhf.plugins import PluginInfo, Plugins
    from rlhf.registry import Entry

app = typer.Typer(no_args_is_help=True, help="List, show, make or check plugins.")
app.command("new")(plugin_new.new_plugin)
app.command("check")(plugin_check.check_plugin)


@app.command("list")
def list_plugins(json: JsonOption = False, plugin: PluginOption = None) -> None:
    """Every plugin: where it is from, the parts and hooks it adds, and the error of one that is broken."""
    with output_to_stderr(json):
        infos = _loaded(plugin).infos
    if json:
        print_json({"plugins": [_as_dict(info) for info in infos]})
        return
    for info in infos:
        typer.echo(f"{info.name}  ({info.origin}){'  BROKEN' if info.error else ''}")
        for line in _details(info):
            typer.echo(f"    {line}")


@app.command("show")
def show_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, as `rlhf plugins list` names it.")],
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """One plugin: version, distribution, hooks, and every option of its parts. Exit 1 where it is broken."""
    from rlhf.errors import PluginError, nearest

    with output_to_stderr(json):
        plugins = _loaded(plugin)
    info = next((info for info in plugins.infos if info.name == name), None)
    if info is None:
        known = [info.name for info in plugins.infos]
        raise PluginError(f"no plugin is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    entries = [entry for entry in plugins.registry.entries() if entry.owner == name]
    if json:
        print_json(_as_dict(info) | {"parts": [_part_as_dict(entry) for entry in entries]})
    else:
        _print(info, entries)
    if info.error:
        raise typer.Exit(1)


def _loaded(files: list[str] | None) -> Plugins:
    from rlhf.plugins import PluginSettings, load_plugins

    return load_plugins(PluginSettings(paths=tuple(files or ())))


def _details(info: PluginInfo) -> list[str]:
    if info.error:
        return [f"error: {info.error}"]
    watching = _watching(info)
    return [*info.parts, *(["hooks: " + ", ".join(watching)] if watching else [])]


def _watching(info: PluginInfo) -> list[str]:
    """The hooks it implements besides those that register parts."""
    return [hook for hook in info.hooks if not hook.startswith("register_")]


def _as_dict(info: PluginInfo) -> dict[str, Any]:
    distribution, version = _source(info)
    return dataclasses.asdict(info) | {"distribution": distribution, "version": version}


def _source(info: PluginInfo) -> tuple[str | None, str | None]:
    """Distribution and version; neither for a plugin of one file."""
    from rlhf import __version__

    if info.origin == "built-in":
        return "rlhf", __version__
    if info.origin.startswith("package "):
        _, distribution, version = info.origin.rsplit(" ", 2)
        return distribution, version
    return None, None


# --- one plugin ------------------------------------------------------------------------------------------------------


def _print(info: PluginInfo, entries: list[Entry]) -> None:
    typer.echo(f"plugin: {info.name}")
    distribution, version = _source(info)
    typer.echo(f"from:   {f'{distribution} {version}' if distribution else info.origin}")
    if info.error:
        typer.echo(f"error:  {info.error}")
    if _watching(info):
        typer.echo(f"hooks:  {', '.join(_watching(info))}")
    for entry in entries:
        typer.echo(f"\n{entry.kind} {entry.name}")
        if _summary(entry):
            typer.echo(f"    {_summary(entry)}")
        _print_options(entry)


def _print_options(entry: Entry) -> None:
    from rlhf.testing.part_options import options_of

    options = options_of(entry.config or entry.options)
    if options:
        rows = [[f"    {option.name}", option.type, option.default, option.doc] for option in options]
        print_table(["    option", "type", "default", "meaning"], rows)
    else:
        typer.echo("    no options")


def _part_as_dict(entry: Entry) -> dict[str, Any]:
    from rlhf.testing.part_options import options_of

    options = [dataclasses.asdict(option) for option in options_of(entry.config or entry.options)]
    return {"kind": entry.kind, "name": entry.name, "doc": _summary(entry), "options": options}


def _summary(entry: Entry) -> str:
    """The first paragraph of its docstring, in one line."""
    doc = entry.factory.__doc__ or ""
    return " ".join(doc.strip().partition("\n\n")[0].split())
