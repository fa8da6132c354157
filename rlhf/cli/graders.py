"""`rlhf graders`: list them, and train those that learn from labelled data."""

from __future__ import annotations

import hashlib
import inspect
import json as json_format
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.options import JsonOption, PluginOption
from rlhf.cli.terminal import output_to_stderr, print_json, print_table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from rlhf.registry import Entry, Registry

CARD_NAME = "card.json"

app = typer.Typer(no_args_is_help=True, help="List graders, or train one from labelled data.")

DataFiles = Annotated[
    list[Path], typer.Option("--data", metavar="FILE", help="Labelled rows (.jsonl, .json, .csv); may be repeated.")
]
OutFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder for the trained grader.")]
OptionWords = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Options of the grader.")]


@app.command("list")
def list_graders(json: JsonOption = False, plugin: PluginOption = None) -> None:
    """Every grader: the plugin it is of, whether it is trained from data, and what it judges."""
    with output_to_stderr(json):
        graders = [_said_of(entry) for entry in _registry(plugin).entries() if entry.kind == "grader"]
    if json:
        print_json({"graders": graders})
        return
    rows = [[g["name"], g["plugin"], "yes" if g["trained"] else "", g["judges"]] for g in graders]
    print_table(["grader", "plugin", "trained", "what it judges"], rows)


@app.command("train")
def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A grader that can be trained (`rlhf graders list`).")],
    data: DataFiles,
    out: OutFolder,
    options: OptionWords = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Train a grader on labelled rows and write it, with a card that says on what and how well, into FOLDER."""
    with output_to_stderr(json):
        card = _trained(_registry(plugin, healthy=True), name, data, out, options or [])
    if json:
        print_json(card)
        return
    print_table(["figure", name], [[figure, f"{value:g}"] for figure, value in card["metrics"].items()])
    for note in card["notes"].values():
        typer.echo(f"({note})")
    typer.echo(f"written to {out}; in a recipe: {{type: graded, grader: {{type: {name}, path: {out}}}}}")


def _trained(registry: Registry, name: str, data: Sequence[Path], out: Path, words: Sequence[str]) -> dict[str, Any]:
    """Train into a folder beside `out` that takes its name once all is written. Returns the card."""
    from rlhf.errors import ConfigError
    from rlhf.recipe_file import parse_override

    entry = registry.get("grader", name)
    if not _is_trainable(entry):
        known = [e.name for e in registry.entries() if e.kind == "grader" and _is_trainable(e)]
        raise ConfigError(f"grader {name!r} is not trained from data; those that are: {', '.join(known) or 'none'}")
    config = registry.check("grader", name, dict(parse_override(word) for word in words), f"grader {name}")
    if out.exists():
        raise ConfigError(f"{out} exists; give a new folder, or remove it first")
    files, rows = _read(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        found = dict(entry.factory.train(config, rows, unfinished))  # type: ignore[attr-defined]  # _is_trainable
        card = _card(entry, config, files, found, unfinished)
        (unfinished / CARD_NAME).write_text(json_format.dumps(card, indent=2) + "\n", encoding="utf-8")
        unfinished.chmod(0o755)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # nothing is there any more where all went well
    return card


def _read(data: Sequence[Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the card says of each file, and all their rows in order."""
    from rlhf.data.files import read_rows
    from rlhf.errors import DataError

    files, rows = [], []
    for path in data:
        if not path.is_file():
            raise DataError(f"--data: no such file {str(path)!r}")
        mine = [row.values for row in read_rows([str(path)])]
        rows += mine
        files.append({"file": path.name, "sha256": _sha256(path), "rows": len(mine)})
    return files, rows


def _card(
    entry: Entry, config: BaseModel | None, files: list[dict[str, Any]], found: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """What was made of what, and how well it does: no date and no path, so that equal training gives an equal card."""
    from rlhf import __version__

    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "grader": entry.name,
        "plugin": entry.owner,
        "rlhf": __version__,
        "options": config.model_dump(mode="json", exclude_unset=True) if config else {},
        "data": files,
        "files": [
            {"file": str(p.relative_to(folder)), "bytes": p.stat().st_size, "sha256": _sha256(p)} for p in written
        ],
        "metrics": {figure: float(value) for figure, value in found.items() if not isinstance(value, str)},
        "notes": {about: words for about, words in found.items() if isinstance(words, str)},
    }


def _said_of(entry: Entry) -> dict[str, Any]:
    doc = inspect.getdoc(entry.factory) if inspect.isclass(entry.factory) else None
    summary = " ".join((doc or "").split("\n\n")[0].split())
    return {"name": entry.name, "plugin": entry.owner, "trained": _is_trainable(entry), "judges": summary}


def _is_trainable(entry: Entry) -> bool:
    return callable(getattr(entry.factory, "train", None))


def _registry(plugin: Sequence[str] | None, healthy: bool = False) -> Registry:
    from rlhf.plugins import PluginSettings, load_plugins

    plugins = load_plugins(PluginSettings(paths=tuple(plugin or ())))
    if healthy:
        plugins.require_healthy()
    return plugins.registry


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
