"""What a model's files may ask of whoever loads them: to be read, and nothing more.

A checkpoint is the work of strangers. Weights are safetensors; a pickle is a program. Classes are those of transformers
or of a plugin; Python files beside the weights are never imported. Names inside files stay inside the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.errors import ConfigError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_KERNEL_KEYS = ("attn_implementation", "experts_implementation")
NO_CODE = (
    "it needs Python code of its own, and a model's code is never run; use one whose classes transformers has, or read "
    "the code and register its classes in a plugin (SECURITY.md)"
)
TO_SAFETENSORS = (
    "its weights are a pickle, which can run code when it is loaded; convert them once, where there is nothing to "
    "steal: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
)


def require_plain_model(path: str, revision: str | None = None) -> None:
    """Refuse a folder or hub name whose files ask for more than to be read. Raises `ConfigError`."""
    config = _json(path, revision, "config.json")
    if _file(path, revision, "adapter_config.json") is not None:
        raise ConfigError(
            f"model {path}: it is or holds an adapter (adapter_config.json), which names weights of its own; "
            "merge it into its model first: rlhf export OLD --out NEW"
        )
    for key, kernel in _kernels(config):
        raise ConfigError(
            f"model {path}: config.json asks for code from the hub ({key}: {kernel!r}); take that key out and set "
            "`model.attention` in the recipe"
        )
    index = _json(path, revision, "model.safetensors.index.json")
    shards = index.get("weight_map")
    names = {*(shards.values() if isinstance(shards, Mapping) else ()), config.get("transformers_weights")} - {None}
    for name in sorted(map(str, names)):
        if Path(name).name != name or not name.endswith((".safetensors", ".safetensors.index.json")):
            raise ConfigError(f"model {path}: its index names {name!r}, which is no safetensors file beside it")
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        if pickles:
            raise ConfigError(f"model {path}: {TO_SAFETENSORS} (found {pickles[0]})")


def why_not_loaded(error: Exception) -> str:
    """What transformers says of a model or tokenizer it cannot load, in one line and without its advice to run code."""
    said = str(error)
    if "trust_remote_code" in said or "custom code" in said:
        return NO_CODE
    if "use_safetensors" in said:
        return TO_SAFETENSORS
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _kernels(config: Any) -> Iterator[tuple[str, str]]:
    """Keys by which transformers would fetch a kernel, which is code, from a hub: values like `owner/name`."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if str(key).removeprefix("_").startswith(_KERNEL_KEYS):
                yield from ((str(key), text) for text in _texts(value) if "/" in text)
            else:
                yield from _kernels(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _json(path: str, revision: str | None, name: str) -> Mapping[str, Any]:
    file = _file(path, revision, name)
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"model {path}: {name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"model {path}: {name} holds no table of keys")
    return found


def _file(path: str, revision: str | None, name: str) -> Path | None:
    """The file of a folder, or of a hub repository, from which it is fetched; None where there is none."""
    folder = Path(path)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            path,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except (OSError, ValueError):
        return None  # no such repository, or none that answers: whoever loads it says so
    return None if found is None else Path(found)
