"""Safetensors from one folder into another, a shard at a time: read, changed, cast, written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlhf.errors import ConfigError
from rlhf.exporting.source import read_table

SHARD_BYTES = 5 * 10**9
"""What hubs and loaders are used to."""
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip

Change = Callable[[str, Tensor], Tensor]
DtypeOf = Callable[[str, torch.dtype], torch.dtype]


@dataclass(frozen=True)
class Stored:
    """A tensor on disk."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


def stored_tensors(folder: Path) -> list[Stored]:
    """All tensors of a model's folder, in the order of its files. Raises `ConfigError` where one is missing."""
    index = read_table(folder / INDEX).get("weight_map") if (folder / INDEX).is_file() else None
    files = sorted(set(index.values())) if isinstance(index, Mapping) else [_SINGLE]
    found: list[Stored] = []
    for name in files:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: {name}, which should hold its weights, is missing")
        found += _tensors_of(folder / name)
    if isinstance(index, Mapping):
        missing = sorted(set(index) - {tensor.name for tensor in found})
        if missing:
            raise ConfigError(f"{folder}: {INDEX} names {missing[0]}, which no file holds")
    return found


def copy_weights(folder: Path, out: Path, change: Change, dtype_of: DtypeOf, shard_bytes: int = SHARD_BYTES) -> None:
    """Write every tensor of `folder`, changed and then cast, in shards of at most `shard_bytes` (one tensor may be
    larger). No more than one shard is in memory.
    """
    shards = _planned(stored_tensors(folder), dtype_of, shard_bytes)
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, start=1):
        name = _SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {}
        for stored, tensor in _read(shard):
            tensors[stored.name] = change(stored.name, tensor).to(dtype_of(stored.name, stored.dtype)).contiguous()
            weight_map[stored.name] = name
            total += tensors[stored.name].nbytes
        save_file(tensors, out / name, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _planned(tensors: Sequence[Stored], dtype_of: DtypeOf, shard_bytes: int) -> list[list[Stored]]:
    """Tensors in their order, a new shard where one would be too large."""
    shards: list[list[Stored]] = [[]]
    held = 0
    for tensor in tensors:
        size = math.prod(tensor.shape) * dtype_of(tensor.name, tensor.dtype).itemsize
        if shards[-1] and held + size > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += size
    return shards


def _read(shard: Sequence[Stored]) -> Iterator[tuple[Stored, Tensor]]:
    for file in dict.fromkeys(tensor.file for tensor in shard):
        with safe_open(file, framework="pt") as opened:
            for tensor in shard:
                if tensor.file == file:
                    yield tensor, opened.get_tensor(tensor.name)


def _tensors_of(file: Path) -> list[Stored]:
    try:
        with safe_open(file, framework="pt") as opened:
            slices = [(name, opened.get_slice(name)) for name in opened.offset_keys()]
            told = [(name, tuple(part.get_shape()), part.get_dtype()) for name, part in slices]
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    unknown = next((f"{name} is {dtype}" for name, _, dtype in told if dtype not in _DTYPES), None)
    if unknown:
        raise ConfigError(f"{file}: {unknown}, which is no format of plain weights")
    return [Stored(name, file, shape, _DTYPES[dtype]) for name, shape, dtype in told]
