"""Two run folders compared by all that must be alike: weights, optimizer tensors, figures, samples, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TIMES = ("time", "seconds")
"""Keys that begin so tell how long something took, which is all that may differ."""


def differences(one: Path, other: Path) -> list[str]:
    """What two folders of the same run do not have in common, bit for bit; empty where one is as good as the other."""
    mine, theirs = (dict(_everything(folder)) for folder in (one, other))
    absent = [f"{name} is in {one if name in mine else other} only" for name in sorted(mine.keys() ^ theirs.keys())]
    return absent + [f"{name} differs" for name in sorted(mine.keys() & theirs.keys()) if mine[name] != theirs[name]]


def _everything(run: Path) -> Iterator[tuple[str, Any]]:
    """Every fact by a name: single tensors, lines of figures, files."""
    for model in sorted(run.rglob("model/*.safetensors")):
        yield from _tensors(run, model)
    for name in ("metrics.jsonl", "samples.jsonl"):
        for path in sorted(run.rglob(name)):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                yield f"{path.relative_to(run)}:{number}", _timeless(json.loads(line))
    for path in sorted(run.rglob("summary.json")):
        yield str(path.relative_to(run)), _timeless(json.loads(path.read_text()))
    for checkpoint in _last_checkpoints(run):
        for path in sorted(checkpoint.rglob("*")):
            if path.suffix == ".safetensors":
                yield from _tensors(run, path)
            elif path.is_file() and path.name != "manifest.json":  # which says when it was written
                yield str(path.relative_to(run)), json.loads(path.read_text())


def _tensors(run: Path, file: Path) -> Iterator[tuple[str, bytes]]:
    for name, tensor in load_file(file).items():
        yield f"{file.relative_to(run)} {name}", bytes(str((tensor.dtype, tensor.shape)), "ascii") + _bytes(tensor)


def _bytes(tensor: torch.Tensor) -> bytes:
    raw: bytes = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return raw


def _last_checkpoints(run: Path) -> Iterator[Path]:
    """Of each stage the newest, which both runs have made by themselves."""
    for folder in sorted(run.rglob("checkpoints")):
        steps = sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
        yield from steps[-1:]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not key.startswith(TIMES)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
