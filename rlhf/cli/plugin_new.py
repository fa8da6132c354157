"""`rlhf plugins new`: a small package of a reward, a grader and their tests, which pass."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package.py": "src/$module/__init__.py",
    "reward.py": "src/$module/reward.py",
    "grader.py": "src/$module/grader.py",
    "test_contract.py": "tests/test_contract.py",
    "test_answers.py": "tests/test_answers.py",
}
"""Template (with `.txt` after it) -> where it goes."""

_PROJECT_NAME = re.compile(r"[a-z0-9]|[a-z0-9][a-z0-9._-]*[a-z0-9]", re.IGNORECASE)


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What recipes will call it, `kindness` for instance.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to make; rlhf-NAME here where absent.", show_default=False),
    ] = None,
) -> None:
    """Make a package with a reward, a grader and tests that pass. Nothing that exists is touched."""
    from rlhf.errors import ConfigError

    plugin = plugin_name(name)
    folder = out if out is not None else Path(f"rlhf-{plugin}")
    if not folder.parent.is_dir():
        raise ConfigError(f"no folder {str(folder.parent)!r} to make {folder.name!r} in; make it first")
    try:
        folder.mkdir()
    except FileExistsError:
        raise ConfigError(f"{folder} exists; give another folder with --out DIR") from None
    write_package(plugin, folder)
    typer.echo(f"made {folder}: a reward and a grader, both called {plugin!r}\n")
    typer.echo(f"    cd {folder}\n    pip install -e . pytest\n    pytest\n    rlhf plugins check .\n")
    typer.echo(f"In a recipe: `reward: {{type: {plugin}, words: 40}}`; as a grader: `monitor: [{plugin}]`.")


def plugin_name(name: str) -> str:
    """The name as package indexes write it: lower case, single hyphens, without `rlhf-` before it.

    Raises `ConfigError` for what is no name of a package, and for one that a part of the toolkit has.
    """
    from rlhf.errors import ConfigError
    from rlhf.plugins import BUILT_INS, load_plugins

    if not _PROJECT_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a package: letters, digits, hyphens, dots and underscores of ASCII, a letter or "
            f"digit first and last"
        )
    plugin = re.sub(r"[-_.]+", "-", name).lower().removeprefix("rlhf-")
    if plugin == "rlhf":
        raise ConfigError("'rlhf' is the toolkit's own name; give the plugin another one")
    registry = load_plugins().registry
    taken = {*registry.names("reward"), *registry.names("grader"), *(module.split(".")[1] for module in BUILT_INS)}
    if plugin in taken:
        raise ConfigError(f"{plugin!r} is the name of a part that is there already; give the plugin another one")
    return plugin


def write_package(plugin: str, folder: Path) -> None:
    """Write the files of a plugin of this name into an empty folder."""
    words = {
        "plugin": plugin,
        "distribution": f"rlhf-{plugin}",
        "module": f"rlhf_{plugin.replace('-', '_')}",
        "class_name": _class_name(plugin),
    }
    templates = files("rlhf") / "cli" / "plugin_template"
    for template, target in FILES.items():
        path = folder / Template(target).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (templates / f"{template}.txt").read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")


def _class_name(plugin: str) -> str:
    """`3d-model-judge` as `DModelJudge`: a class begins with a letter."""
    joined = "".join(word.capitalize() for word in plugin.split("-")).lstrip("0123456789")
    return joined[:1].upper() + joined[1:] or "Plugin"
