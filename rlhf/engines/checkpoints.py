"""An engine's state on disk: safetensors and JSON, never pickle. What is frozen is not written: its folder still is.

    engine.json               format, role, steps, skipped and the names of the files beside it
    engine-00000.safetensors  weight.NAME, exp_avg.NAME, exp_avg_sq.NAME, step.NAME for every trained parameter, whole

Tensors are whole whatever engine wrote them, so a run may continue on another number of processes or another engine.
There is no random state among them: what a step draws is a function of its number (`random_numbers`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rlhf.errors import RunError

FORMAT = 2
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
FILE_BYTES = 2 * 2**30
"""A file is closed beyond this size, which bounds the memory a save takes."""

Named = Iterator[tuple[str, Tensor]]


def write_state(
    path: Path, tensors: Named, *, role: str, steps: int, skipped: int, engine: str, dtype: torch.dtype
) -> None:
    """Write the files into the folder `path`, made where absent; `engine.json` comes last. All is on disk then.

    `engine` and `dtype`, of its arithmetic, are for who reads it. Raises `OSError`, on a full disk say.
    """
    path.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    held: dict[str, Tensor] = {}
    held_bytes = 0
    for name, tensor in tensors:
        held[name] = tensor.detach().to("cpu", copy=True).contiguous()
        held_bytes += tensor.nbytes
        if held_bytes > FILE_BYTES:
            files.append(_write_file(path, len(files), held))
            held, held_bytes = {}, 0
    files.append(_write_file(path, len(files), held))
    kind = {"engine": engine, "dtype": str(dtype).removeprefix("torch.")}
    header = {"format": FORMAT, "role": role, "steps": steps, "skipped": skipped, "files": files, **kind}
    (path / "engine.json").write_text(json.dumps(header) + "\n")
    _to_disk(path / "engine.json")


def _write_file(path: Path, number: int, tensors: dict[str, Tensor]) -> str:
    name = f"engine-{number:05}.safetensors"
    try:
        save_file(tensors, path / name)
    except SafetensorError as error:  # its own word for a full disk
        raise OSError(f"{name}: {error}") from error
    _to_disk(path / name)
    return name


def _to_disk(path: Path) -> None:
    """On the machine that wrote it: another one may share the folder and not the cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Header(BaseModel):
    """`engine.json`."""

    model_config = ConfigDict(strict=True)

    format: int
    role: str
    steps: int = Field(ge=0)
    skipped: int = Field(ge=0)
    files: list[Annotated[str, Field(pattern=r"^engine-\d{5}\.safetensors$")]]
    """Names, which cannot lead out of the folder."""


class SavedTensors(Mapping[str, Tensor]):
    """The tensors of a saved engine, each read when it is asked for."""

    def __init__(self, path: Path, files: list[str]) -> None:
        self._files = [safe_open(path / name, framework="pt") for name in files]
        self._where = {name: file for file in self._files for name in file.keys()}  # type: ignore[no-untyped-call]  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, without reading it."""
        return tuple(self._where[name].get_slice(name).get_shape())  # type: ignore[no-untyped-call]


class SavedEngine(NamedTuple):
    """What `read_state` found."""

    tensors: SavedTensors
    steps: int
    """Optimizer steps taken."""
    skipped: int
    """Steps in a row, the latest of all, that were not taken."""


def read_state(path: Path, *, role: str, shapes: Mapping[str, tuple[int, ...]]) -> SavedEngine:
    """Raises `RunError` where the files are missing or broken, or are of another role or of weights of other shapes."""
    try:
        header = _Header.model_validate_json((path / "engine.json").read_bytes())
        if header.format != FORMAT or header.role != role:
            raise RunError(f"{path} holds format {header.format} of a {header.role}, not format {FORMAT} of a {role}")
        saved = SavedEngine(SavedTensors(path, header.files), header.steps, header.skipped)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"cannot read the saved {role} in {path}: {' '.join(str(error).split())[:300]}") from error
    _require_whole(path, saved, shapes)
    return saved


def _require_whole(path: Path, saved: SavedEngine, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every weight is there in its shape, with all of its moments, or with none where it never had a gradient."""
    tensors = saved.tensors
    there = {key.removeprefix("weight."): tensors.shape(key) for key in tensors if key.startswith("weight.")}
    if differing := sorted(name for name in shapes.keys() | there.keys() if shapes.get(name) != there.get(name)):
        name = differing[0]
        was, here = there.get(name, "absent"), shapes.get(name, "absent")
        raise RunError(f"{path} is of another model: {name} is {was} there and {here} here")
    for key in tensors:
        moment, _, name = key.partition(".")
        if moment in ("exp_avg", "exp_avg_sq") and tensors.shape(key) != shapes.get(name):
            raise RunError(f"{path} is of another model: {key} is {tensors.shape(key)} there, {shapes.get(name)} here")
    stepped = {name for name in shapes if any(f"{moment}.{name}" in tensors for moment in MOMENTS)}
    lacking = [
        f"{moment}.{name}" for name in sorted(stepped) for moment in MOMENTS if f"{moment}.{name}" not in tensors
    ]
    if lacking:
        raise RunError(f"{path} lacks {len(lacking)} tensors of the optimizer, first {lacking[0]}")
    if shapes and bool(stepped) != (saved.steps > 0):
        raise RunError(f"{path} is of {saved.steps} steps, but has moments of {len(stepped)} of {len(shapes)} weights")


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, each once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def model_tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Named:
    """Trained weights with their moments."""
    for name, parameter in trained_parameters(model).items():
        yield f"weight.{name}", parameter
        moments = optimizer.state.get(parameter, {}) if optimizer else {}
        yield from ((f"{moment}.{name}", moments[moment]) for moment in MOMENTS if moment in moments)


@torch.no_grad()
def restore_model(model: nn.Module, optimizer: torch.optim.Optimizer | None, tensors: SavedTensors) -> None:
    """Put what `model_tensors` gave back into a model of the same shapes."""
    for name, parameter in trained_parameters(model).items():
        parameter.copy_(tensors[f"weight.{name}"])
        if optimizer is not None:
            moments = {m: tensors[f"{m}.{name}"] for m in MOMENTS if f"{m}.{name}" in tensors}
            optimizer.state[parameter] = {m: t if m == "step" else t.to(parameter.device) for m, t in moments.items()}
