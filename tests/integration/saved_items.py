"""What a checkpoint holds, item by item, and ways to leave one of them out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rlhf.runtime.checkpoints.manifest import MANIFEST, Manifest, read_manifest, seal

Place = tuple[str | int, ...]
_OWN = ("files", "saved_at", "seal")
"""What `seal` writes by itself."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def kinds(checkpoint: Path) -> list[str]:
    """Of every item: `run.json algorithm.kl_coef`, `policy/engine.json steps`, `policy exp_avg`.

    Items of one kind (list elements, what is filed under a digest, a tensor for each weight) share a name.
    """
    found: dict[str, None] = {}
    for file in _tables(checkpoint):
        for place, _ in _leaves(json.loads(file.read_text())):
            found[f"{file.relative_to(checkpoint)} {_kind(place)}"] = None
    for file in sorted(checkpoint.rglob("*.safetensors")):
        for name in load_file(file):
            found[f"{file.parent.relative_to(checkpoint)} {name.partition('.')[0]}"] = None
    return list(found)


def without(checkpoint: Path, kind: str) -> None:
    """Take all items of a kind out of the checkpoint."""

    def change(table: Any, places: list[Place]) -> None:
        for place in reversed(places):  # an element that goes leaves the places of those before it
            del _at(table, place[:-1])[place[-1]]

    _edit(checkpoint, kind, change, lambda _, tensors, names: {n: t for n, t in tensors.items() if n not in names})


def as_in(checkpoint: Path, first: Path | None, kind: str) -> None:
    """Put all items of a kind back to what they were in the checkpoint `first`, or to nothing where it has none."""

    def change(table: Any, places: list[Place]) -> None:
        known = dict(_leaves(json.loads((first / kind.partition(" ")[0]).read_text()))) if first else {}
        for place in places:
            now = _at(table, place[:-1])[place[-1]]
            _at(table, place[:-1])[place[-1]] = known.get(place, type(now)())

    def change_tensors(file: Path, tensors: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
        before = load_file(first / file.relative_to(checkpoint)) if first else {}
        return tensors | {name: before.get(name, torch.zeros_like(tensors[name])) for name in names}

    _edit(checkpoint, kind, change, change_tensors)


def same(one: Path, other: Path, kind: str) -> bool:
    """Whether two checkpoints have the same items of a kind."""
    return _items(one, kind) == _items(other, kind)


def is_nothing(checkpoint: Path, kind: str) -> bool:
    """Whether all items of a kind are 0, empty or the like."""
    return not any(any(item) if isinstance(item, list) else item for item in _items(checkpoint, kind).values())


def is_empty(checkpoint: Path, kind: str) -> bool:
    """Whether the kind is a table that holds nothing yet."""
    return all(item in ({}, []) for item in _items(checkpoint, kind).values())


def _items(checkpoint: Path, kind: str) -> dict[Any, Any]:
    where, name = kind.split(" ")
    if where.endswith(".json"):
        return {p: v for p, v in _leaves(json.loads((checkpoint / where).read_text())) if _kind(p) == name}
    files = (checkpoint / where).glob("*.safetensors")
    tensors = {n: t for file in files for n, t in load_file(file).items()}
    return {n: t.flatten().tolist() for n, t in tensors.items() if n.partition(".")[0] == name}


def _edit(
    checkpoint: Path,
    kind: str,
    change: Callable[[Any, list[Place]], None],
    change_tensors: Callable[[Path, dict[str, torch.Tensor], list[str]], dict[str, torch.Tensor]],
) -> None:
    where, name = kind.split(" ")
    if where.endswith(".json"):
        table = json.loads((checkpoint / where).read_text())
        change(table, [place for place, _ in _leaves(table) if _kind(place) == name])
        (checkpoint / where).write_text(json.dumps(table))
    else:
        for file in (checkpoint / where).glob("*.safetensors"):
            tensors = load_file(file)
            names = [n for n in tensors if n.partition(".")[0] == name]
            save_file(change_tensors(file, tensors, names), file)
    resealed(checkpoint)


def resealed(checkpoint: Path) -> None:
    """The manifest a run would have written of these files, so that nothing but the item itself can be noticed."""
    about = read_manifest(checkpoint)
    (checkpoint / MANIFEST).unlink()
    seal(checkpoint, **{name: getattr(about, name) for name in Manifest.model_fields if name not in _OWN})


def copied(run: Path, folder: Path, step: int) -> Path:
    """The run as a kill after that step leaves it; its checkpoint of the step is returned."""
    shutil.copytree(run, folder)
    for path in folder.glob("checkpoints/step-*"):
        if path.name != f"step-{step}":
            shutil.rmtree(path)
    shutil.rmtree(folder / "model", ignore_errors=True)
    for name in ("summary.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    return folder / "checkpoints" / f"step-{step}"


def _tables(checkpoint: Path) -> Iterator[Path]:
    yield from (path for path in sorted(checkpoint.rglob("*.json")) if path.name != "manifest.json")


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """What is no table, and empty tables, with the keys on the way. Lists of numbers (tokens) are one item."""
    numbers = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list) or not value or numbers:
        yield place, value
        return
    for key, item in inner:
        yield from _leaves(item, (*place, key))


def _kind(place: Place) -> str:
    if place[0] == "before":  # figures of held-out rows, whichever a method has
        return "before.*"
    return ".".join("*" if isinstance(key, int) or _DIGEST.fullmatch(key) else key for key in place)


def _at(table: Any, place: Place) -> Any:
    for key in place:
        table = table[key]
    return table
