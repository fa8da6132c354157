"""One-file plugins of a run: copies in its folder, so that it can be resumed from any folder and says what it ran.

`RUN/recipe.yaml` names the copies in `RUN/plugins/`, where `files.json` has the SHA-256 of each and where it came from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rlhf.errors import ConfigError
from rlhf.recipe import Recipe

FOLDER_NAME = "plugins"
RECORD_NAME = "files.json"


def require_same_plugin_files(recipe: Recipe, folder: Path) -> None:
    """Refuse to go on with files that are not those the run in `folder` was begun with.

    A script that trains is changed to say `resume=True`, so the running one may differ.
    """
    for file in _files(recipe):
        copy = folder / FOLDER_NAME / file.name
        if copy.is_file() and _sha256(copy) != _sha256(file) and not _is_running(file):
            raise ConfigError(
                f"--resume: {file} differs from {copy}, which the run was begun with; to go on as it was begun: rlhf "
                f"train {folder / 'recipe.yaml'} --resume --out {folder}; to go on with the changed file: cp {file} "
                f"{copy} first"
            )


def keep_plugin_files(recipe: Recipe, folder: Path) -> tuple[Recipe, list[str]]:
    """Copy them into the folder, and note them down. Returns the recipe that names the copies, from beside it, and
    what a user should be told: a copy that was changed, or a file that is no longer what was copied.
    """
    copies, notes = folder / FOLDER_NAME, []
    record = _record(copies)
    for file in dict.fromkeys(_files(recipe)):
        known = record.setdefault(file.name, {"from": str(file.absolute()), "sha256": []})
        notes += _said(file, copies / file.name, known)
        if file.resolve() != (copies / file.name).resolve():
            copies.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copies / file.name)
        digest = _sha256(copies / file.name)
        known["sha256"] += [digest] if known["sha256"][-1:] != [digest] else []
    if record:
        (copies / RECORD_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    paths = tuple(f"{FOLDER_NAME}/{Path(spec).name}" for spec in recipe.plugins.paths)
    return recipe.model_copy(update={"plugins": recipe.plugins.model_copy(update={"paths": paths})}), notes


def _said(file: Path, copy: Path, known: dict[str, Any]) -> list[str]:
    """Of a file that the run knows already."""
    if not known["sha256"]:
        return []
    if _sha256(file) != known["sha256"][-1]:
        return [f"{file} has changed since the run began; it goes on with what the file is now"]
    source = Path(known["from"])
    if source.is_file() and source.resolve() != file.resolve() and _sha256(source) != known["sha256"][-1]:
        return [f"{source} has changed since the run began; it goes on with its own copy, {copy}"]
    return []


def _files(recipe: Recipe) -> list[Path]:
    """Of `FILE.py` and `FILE.py:FUNCTION` alike; those that are not there are refused when plugins are loaded."""
    specs = (spec.partition(".py:") for spec in recipe.plugins.paths)
    files = [Path(file + ".py" if separator else file) for file, separator, _ in specs]
    return [file for file in files if file.is_file()]


def _record(copies: Path) -> dict[str, dict[str, Any]]:
    path = copies / RECORD_NAME
    record: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record


def _is_running(file: Path) -> bool:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return script is not None and Path(script).resolve() == file.resolve()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
