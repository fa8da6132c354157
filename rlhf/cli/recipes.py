"""`rlhf recipes`: what is shipped, to read and to copy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from rlhf.cli.terminal import print_table

app = typer.Typer(no_args_is_help=True, help="List, show or copy the shipped recipes.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.")]


@app.command("list")
def list_recipes() -> None:
    """The shipped recipes and what each does."""
    from rlhf.recipe_file import read_yaml, shipped_recipes

    rows = [
        [name, " ".join(str(read_yaml(path).get("description", "")).split())]
        for name, path in shipped_recipes().items()
    ]
    print_table(["recipe", "what it does"], rows)


@app.command("show")
def show(name: Name) -> None:
    """Print a shipped recipe."""
    typer.echo(_shipped(name).read_text(encoding="utf-8"), nl=False)


@app.command("copy")
def copy(
    name: Name,
    dest: Annotated[Path, typer.Argument(metavar="[DEST]", help="A file or folder.")] = Path(),
) -> None:
    """Copy a shipped recipe here (or to DEST), to change it; a file that exists is never overwritten."""
    from rlhf.errors import ConfigError

    source = _shipped(name)
    target = dest / source.name if dest.is_dir() else dest
    if not target.parent.is_dir():
        raise ConfigError(f"no folder {str(target.parent)!r} to copy recipe {name!r} into; make it first")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(_renamed(source.read_text(encoding="utf-8"), target.stem))
    except FileExistsError:
        raise ConfigError(f"{target} exists; give another name: rlhf recipes copy {name} FILE.yaml") from None
    typer.echo(f"copied to {target}; run it with: rlhf train {target}")


def _renamed(text: str, name: str) -> str:
    """The recipe under a name of its own, so that its runs do not go where the original's are."""
    quoted = name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else json.dumps(name)  # `1` would be a number
    return re.sub(r"^name:.*$", lambda _: f"name: {quoted}", text, count=1, flags=re.MULTILINE)


def _shipped(name: str) -> Path:
    from rlhf.errors import ConfigError, nearest
    from rlhf.recipe_file import shipped_recipes

    shipped = shipped_recipes()
    if name not in shipped:
        raise ConfigError(f"no shipped recipe is called {name!r}.{nearest(name, shipped)} Known: {', '.join(shipped)}.")
    return shipped[name]
