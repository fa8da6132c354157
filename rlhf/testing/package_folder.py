"""A plugin's source folder, made to look installed to one process: no pip, no network, nothing left behind."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.errors import PluginError, nearest
from rlhf.plugins import ENTRY_POINT_GROUP


@dataclass(frozen=True)
class PackageFolder:
    """What a package's pyproject.toml says of it."""

    folder: Path
    distribution: str
    version: str
    entry_points: dict[str, str]
    """Plugin's name -> the module that registers its parts."""
    import_roots: tuple[Path, ...]
    """Folders its modules are imported from."""


def read_package_folder(folder: Path) -> PackageFolder:
    """Read pyproject.toml. Raises `PluginError` where it is missing, unreadable, or declares no plugin."""
    file = folder / "pyproject.toml"
    if not file.is_file():
        raise PluginError(f"{folder} has no pyproject.toml; give a package's folder, an installed plugin, or FILE.py")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PluginError(f"{file} is not valid TOML: {error}") from None
    project: dict[str, Any] = content.get("project", {})
    groups: dict[str, Any] = project.get("entry-points", {})
    points: dict[str, str] = groups.get(ENTRY_POINT_GROUP, {})
    if not project.get("name") or not points:
        hint = f" Did you mean {ENTRY_POINT_GROUP!r} by {given!r}?" if (given := _near(groups)) else ""
        raise PluginError(
            f"{file} declares no plugin: it needs a name, and a table [project.entry-points.{ENTRY_POINT_GROUP}] with "
            f'a line as NAME = "MODULE".{hint}'
        )
    roots = tuple(dict.fromkeys(_import_root(folder, value) for value in points.values()))
    return PackageFolder(folder, project["name"], str(project.get("version", "0")), points, roots)


def _near(groups: Mapping[str, Any]) -> str | None:
    """The group that is ours but for a slip of the pen."""
    return next((name for name in groups if name != ENTRY_POINT_GROUP and nearest(ENTRY_POINT_GROUP, [name])), None)


def _import_root(folder: Path, entry_point: str) -> Path:
    top = entry_point.partition(":")[0].split(".")[0].strip()
    for root in (folder / "src", folder):
        if (root / top).is_dir() or (root / f"{top}.py").is_file():
            return root
    raise PluginError(
        f"{folder}: no module {top!r} in it or in its src/, which pyproject.toml names; install the package and check "
        f"it by its plugin's name"
    )


def write_metadata(package: PackageFolder, into: Path) -> list[Path]:
    """Write the metadata an installation would, and return what to put on the path, first things first."""
    info = into / f"{re.sub(r'[-_.]+', '_', package.distribution)}-{package.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package.distribution}\nVersion: {package.version}\n", encoding="utf-8"
    )
    lines = "".join(f"{name} = {value}\n" for name, value in package.entry_points.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{lines}", encoding="utf-8")
    return [into, *package.import_roots]
