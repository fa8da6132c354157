"""A network's weights under the names the rest of the world knows, and the folder `from_pretrained` loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.config import LoraConfig, ModelConfig
from rlhf.engines.lora import ADAPTER, adapter_layers, adapter_weights, is_adapter, merged_weight, peft_config
from rlhf.engines.precision import handed_dtype
from rlhf.engines.pretrained import save_model
from rlhf.engines.quantized import is_quantized, plain

Gather = Callable[[Sequence[nn.Parameter]], AbstractContextManager[object]]
"""Makes the listed parameters whole while it is entered (ZeRO-3)."""


def whole(_: Sequence[nn.Parameter]) -> AbstractContextManager[object]:
    """Nothing is sharded in one process."""
    return nullcontext()


def live_weights(network: PreTrainedModel) -> Iterator[tuple[str, Tensor, Any]]:
    """(Hugging Face name, parameter or buffer, the layer that adapts it or None): tied heads under both names.

    The parameters themselves, which ZeRO-3 may have spread; without the adapters, which are no weights of the model.
    """
    adapted = {f"{name}.": layer for name, layer in adapter_layers(network).items()}
    parameters = dict(network.named_parameters(remove_duplicate=False))
    scales = tuple(f"{name}." for name, parameter in parameters.items() if is_quantized(parameter))
    for name, tensor in network.state_dict().items():
        if is_adapter(name) or name.startswith(scales):
            continue
        prefix, found, rest = name.partition("base_layer.")
        layer = adapted[prefix] if found and rest == "weight" else None
        yield prefix + rest, parameters.get(name, tensor), layer


def full_weights(network: PreTrainedModel, gather: Gather = whole) -> Iterator[tuple[str, Tensor]]:
    """(Hugging Face name, tensor) one at a time: tied heads under both names, adapters merged.

    A tensor may be a view of the live parameter, and is only good until the next one is asked for.
    """
    for name, tensor, layer in live_weights(network):
        if layer is not None:
            with gather(list(layer.parameters())):
                yield name, merged_weight(layer)
        elif isinstance(tensor, nn.Parameter):
            with gather([tensor]):
                yield name, plain(tensor)
        else:
            yield name, tensor


def handed_weights(
    network: PreTrainedModel, model: ModelConfig, compute: torch.dtype, gather: Gather = whole, *, base: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """`full_weights`, or weights and adapters apart, in the format that an engine which generates computes in.

    Without `base` only adapters, where they go apart.
    """
    weights = _weights_apart(network, gather, base=base) if model.adapters_apart else full_weights(network, gather)
    for name, tensor in weights:
        yield name, tensor.to(handed_dtype(network, name, tensor, compute))


def _weights_apart(network: PreTrainedModel, gather: Gather, *, base: bool) -> Iterator[tuple[str, Tensor]]:
    for name, tensor, _ in live_weights(network) if base else ():
        with gather([tensor]) if isinstance(tensor, nn.Parameter) else nullcontext():
            yield name, plain(tensor)
    for name, parameter, factor in adapter_weights(network):
        with gather([parameter]):
            yield name, parameter.detach().float() * factor


def held_weights(network: PreTrainedModel) -> dict[str, Tensor]:
    """Where a network that generates holds what it is handed; adapters too, where room was made for them."""
    held = {name: tensor for name, tensor, _ in live_weights(network)}
    return held | {name: parameter for name, parameter, _ in adapter_weights(network)}


def export_model(
    network: PreTrainedModel, lora: LoraConfig | None, path: Path, *, gather: Gather = whole, write: bool = True
) -> None:
    """Write the full model, adapters merged, and with LoRA on a policy the bare adapter in `path/adapter` as well.

    Under ZeRO-3 every process must call this; the one with `write` keeps the weights and writes them.
    """
    tied = set(getattr(network, "all_tied_weights_keys", None) or ()) if _is_tied(network) else set()
    state: dict[str, Tensor] = {}
    for name, tensor in full_weights(network, gather):
        if write and name not in tied:
            state[name] = tensor.cpu().clone()
    adapter = _adapter_state(network, gather) if lora is not None else {}
    if not write:
        return
    dtype = network.config.dtype
    network.config.dtype = next((t.dtype for n, t in state.items() if t.is_floating_point()), dtype)
    save_model(network, path, state)
    network.config.dtype = dtype
    if lora is not None and network.get_output_embeddings() is not None:
        folder = path / "adapter"
        folder.mkdir(exist_ok=True)
        config = peft_config(network, lora)
        config.base_model_name_or_path = network.config.name_or_path
        config.inference_mode = True
        config.save_pretrained(str(folder))
        save_file(adapter, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapter_state(network: PreTrainedModel, gather: Gather) -> dict[str, Tensor]:
    """Adapter weights under peft's names: its model wraps the network twice and leaves the adapter's name out."""
    state = {}
    for name, parameter in network.named_parameters():
        if ".lora_" in name:
            with gather([parameter]):
                state[f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}"] = parameter.detach().cpu().clone()
    return state


def _is_tied(network: PreTrainedModel) -> bool:
    output, inputs = network.get_output_embeddings(), network.get_input_embeddings()
    return output is not None and output.weight is inputs.weight
