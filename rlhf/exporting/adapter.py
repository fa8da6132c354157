"""An adapter of peft: added to the weights it was trained on, or copied as it is.

Adding is arithmetic on named tensors, `W + scale B A`, so neither network is built and one shard is enough. What an
adapter may ask for beyond that is refused by name.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rlhf.errors import ConfigError
from rlhf.exporting.source import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Source, is_hub_name, read_table

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_UNDERSTOOD = frozenset({
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
    "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "target_modules", "task_type", "use_rslora",
})  # fmt: skip
"""What leaves the sum as it is, or is allowed for. Any other setting has to be off."""
_OFF: tuple[Any, ...] = (None, False, "none", {}, [])
_KEPT_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to begin that leave the weights beneath as they were; PiSSA, OLoRA and their like change them."""


class Adapter:
    """What is added to weights, by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        table = read_table(folder / ADAPTER_CONFIG)
        _require_a_sum(folder, table)
        tensors = _read(folder)
        self._is_transposed = bool(table.get("fan_in_fan_out"))
        self._alpha = float(table.get("lora_alpha") or 8)
        self._is_rank_stabilised = bool(table.get("use_rslora"))
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self._whole: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            name = key.removeprefix(_PREFIX)
            if name.endswith(_A) and (partner := tensors.get(key.removesuffix(_A) + _B)) is not None:
                self._pairs[name.removesuffix(_A) + ".weight"] = (tensor, partner)
            elif ".lora_" not in name:
                self._whole[name] = tensor  # trained whole beside the adapters: a new head
            elif not name.endswith(_B):
                raise ConfigError(f"{folder}: {key} is no part of a plain adapter; merge it with peft")

    def require_names(self, names: frozenset[str], weights: Path) -> None:
        """Refuse an adapter of weights that the model has not under these names."""
        missing = sorted({*self._pairs, *self._whole} - names)
        if missing:
            raise ConfigError(
                f"{self.folder} changes {missing[0]}, which the files of {weights} do not hold (another model, or a "
                "weight tied to one of another name); merge it with peft"
            )

    def require_untied(self, vocab_size: int, weights: Path) -> None:
        """Refuse new embeddings for a model whose output is tied to its own: peft would leave the output as it was."""
        for name, tensor in self._whole.items():
            if tensor.dim() == 2 and tensor.shape[0] == vocab_size:
                raise ConfigError(
                    f"{self.folder} has {name} anew, to which the output of {weights} is tied; merge it with peft, "
                    "which can part the two"
                )

    def added(self, name: str, weight: Tensor) -> Tensor:
        """The weight with what the adapter adds, summed in float32."""
        if name in self._whole:
            return self._whole[name]
        if name not in self._pairs:
            return weight
        down, up = (tensor.float() for tensor in self._pairs[name])
        rank = down.shape[0]
        delta = (up @ down) * (self._alpha / (math.sqrt(rank) if self._is_rank_stabilised else rank))
        delta = delta.T if self._is_transposed else delta
        if delta.shape != weight.shape:
            raise ConfigError(
                f"{self.folder}: {name} is {tuple(delta.shape)} there and {tuple(weight.shape)} in the model: it is "
                "of another one"
            )
        return weight.float() + delta


def copy_adapter(source: Source, out: Path) -> None:
    """The adapter as a folder that `PeftModel.from_pretrained` loads. Raises `ConfigError` where there is none."""
    folder = adapter_folder(source)
    table = read_table(folder / ADAPTER_CONFIG)
    _read(folder)  # whole, and no pickle
    if table.get("task_type") is None and _is_language_model(source):
        table["task_type"] = "CAUSAL_LM"
    (out / ADAPTER_CONFIG).write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(folder / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)


def adapter_folder(source: Source) -> Path:
    """Where the adapter of a source lies. Raises `ConfigError` where it has none."""
    if source.adapter is not None:
        return source.adapter
    folder = source.weights / "adapter"
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ConfigError(
            f"{source.given} has no adapter: it was trained whole, or is a reward or value model, whose new head goes "
            "with all its weights; --to safetensors writes it"
        )
    return folder


def base_of_adapter(source: Source) -> str:
    """What the adapter says it is of."""
    return str(read_table(adapter_folder(source) / ADAPTER_CONFIG).get("base_model_name_or_path") or "")


def base_warning(source: Source) -> str | None:
    """What to tell a user whose adapter is of a model that only this machine has."""
    base = base_of_adapter(source)
    if is_hub_name(base):
        return None
    return (
        f"the adapter is of {base or 'a model without a name'}, a folder of this machine; who loads it needs that too"
    )


def _is_language_model(source: Source) -> bool:
    names = read_table(source.weights / "config.json").get("architectures") or [""]
    return str(names[0]).endswith("ForCausalLM")


def _require_a_sum(folder: Path, table: Mapping[str, Any]) -> None:
    """Refuse adapters that are more than `scale B A` added to the weights."""
    if table.get("peft_type") != "LORA":
        raise ConfigError(f"{folder}: an adapter of kind {table.get('peft_type')}; only LORA can be merged here")
    if table.get("init_lora_weights", True) not in _KEPT_BASE:
        raise ConfigError(
            f"{folder}: init_lora_weights {table['init_lora_weights']!r} changed the weights beneath; merge it with "
            "peft"
        )
    for key, value in table.items():
        if key not in _UNDERSTOOD and value not in _OFF:
            raise ConfigError(f"{folder}: {key}: {value!r} is not understood here; merge it with peft")


def _read(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        pickled = " (adapter_model.bin is a pickle, which can run code)" * (folder / "adapter_model.bin").is_file()
        raise ConfigError(f"{folder} has no {ADAPTER_WEIGHTS}{pickled}")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
