"""Adapters in vLLM: one, kept in the slot of an engine that was started with room for it, and changed in memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.config import LoraConfig, ModelConfig
from rlhf.engines.fingerprints import fingerprints_of
from rlhf.engines.lora import is_adapter, make_room_for_adapters
from rlhf.errors import ConfigError, UnsupportedModel
from rlhf.types import Fingerprint

_ID = 1
"""Of the only adapter; vLLM counts from 1, and 0 is none."""

_PREFIX = "base_model.model."
"""Of all names in an adapter that peft saved, which is what vLLM reads."""


def adapter_arguments(lora: LoraConfig, compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What vLLM is started with. Raises `ConfigError` on what its kernels for adapters do not take."""
    from vllm.config.lora import MaxLoRARanks

    ranks = [rank for rank in get_args(MaxLoRARanks) if rank >= lora.rank]
    instead = "or set model.lora.hand_over: merged"
    if not ranks:
        raise ConfigError(
            f"model.lora.rank: vLLM has adapters up to {max(get_args(MaxLoRARanks))}; lower it, {instead}"
        )
    if device.type != "cpu" and compute == torch.float32:
        raise ConfigError(f"model.dtype: on a GPU vLLM has no adapters in float32; set bfloat16, {instead}")
    return {"enable_lora": True, "max_lora_rank": min(ranks), "max_loras": 1}


def add_adapter_places(network: PreTrainedModel, lora: LoraConfig) -> None:
    """In a network without memory (device `meta`), whose weights are those vLLM must be sent."""
    with torch.device("meta"):
        make_room_for_adapters(network, lora)


def require_adaptable(llm: Any, names: Collection[str], model: ModelConfig) -> None:
    """Raise `UnsupportedModel` on an adapter that vLLM has no place for: it would leave it out without a word."""
    adapters = sorted(filter(is_adapter, names))
    if left_out := llm.collective_rpc(_without_place, args=(adapters,))[0]:
        raise UnsupportedModel(
            f"vLLM has no place for {len(left_out)} adapters of {model.path}, such as {left_out[0]!r}; set "
            "rollout.engine: transformers, other model.lora.target_modules, or model.lora.hand_over: merged"
        )


def adapter_request() -> Any:
    """What tells vLLM to generate with the adapter. It has no path: it is never read, but handed over."""
    from vllm.lora.request import LoRARequest

    return LoRARequest("policy", _ID, "handed over in memory")


def load_adapters(worker: Any, adapters: dict[str, Tensor], rank: int) -> dict[str, Fingerprint]:
    """In the process of the model: put the adapter in its slot in place of the last, and tell what is there then."""
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    adapter = LoRAModel.from_lora_tensors(
        _ID,
        # Copies: vLLM keeps what it is given, and the trainer trains on.
        {_PREFIX + name: tensor.clone() for name, tensor in adapters.items()},
        PEFTHelper(r=rank, lora_alpha=rank, target_modules=[]),  # the scale is in the weights
        device="cpu",
        dtype=worker.model_runner.lora_manager.lora_config.lora_dtype,
        weights_mapper=_renaming(worker),
    )
    slots = _slots(worker)
    slots.remove_adapter(_ID)
    slots.add_adapter(adapter)
    slots.activate_adapter(_ID)
    places = _places(worker)
    held = {name: _as_held(sent, places.get(_layer(worker, name)), name, rank) for name, sent in adapters.items()}
    return fingerprints_of(held.items())


def _as_held(sent: Tensor, place: tuple[Any, int] | None, name: str, rank: int) -> Tensor:
    """What the layer multiplies by; as it was sent where a layer is cut over several devices, or in other parts."""
    layer, number = place or (None, 0)
    if layer is None or number >= len(layer.lora_a_stacked):
        return sent
    down, up = layer.lora_a_stacked[number][0, 0], layer.lora_b_stacked[number][0, 0]
    held: Tensor = down[:rank] if ".lora_A." in name else up[:, :rank]
    return held if held.shape == sent.shape else sent


def _without_place(worker: Any, adapters: list[str]) -> list[str]:
    places = _places(worker)
    return [name for name in adapters if _layer(worker, name) not in places]


def _places(worker: Any) -> dict[str, tuple[Any, int]]:
    """Layers that can have adapters, and the number within it of each part of those that vLLM has fused."""
    slots = _slots(worker)
    parts = {name: slots.packed_modules.get(name, [name]) for name in slots.modules}
    return {part: (slots.modules[name], number) for name in parts for number, part in enumerate(parts[name])}


def _layer(worker: Any, name: str) -> str:
    """Of an adapter's weight, by vLLM's name."""
    from vllm.lora.utils import parse_fine_tuned_lora_name

    layer: str = parse_fine_tuned_lora_name(_PREFIX + name, _renaming(worker))[0]
    return layer


def _renaming(worker: Any) -> Any:
    mapper = getattr(worker.model_runner.get_model(), "hf_to_vllm_mapper", None)
    return None if mapper is None else mapper.get_rename_mapper()


def _slots(worker: Any) -> Any:
    return worker.model_runner.lora_manager._adapter_manager
