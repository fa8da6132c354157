"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) through peft, put inside a network without wrapping it.

The base weights are frozen and kept; with its adapters off, a policy is its own reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf.config import LoraConfig
from rlhf.engines.quantized import forget_quantizer, plain
from rlhf.errors import ConfigError

if TYPE_CHECKING:
    from peft import LoraConfig as PeftLoraConfig

ADAPTER = "default"


def add_adapters(network: PreTrainedModel, head: nn.Module, config: LoraConfig, seed: int) -> None:
    """Adapters on the chosen linear layers; everything else but a scalar head is frozen."""
    _inject(network, config, seed)
    forget_quantizer(network)
    for layer in adapter_layers(network).values():
        layer.lora_A.float()
        layer.lora_B.float()
    if isinstance(head, nn.Linear):  # a value or reward head is new: it is trained whole, and like adapters in float32
        head.float().requires_grad_(True)


def make_room_for_adapters(network: PreTrainedModel, config: LoraConfig) -> None:
    """In a network that generates, and is handed adapters as `adapter_weights` tells them: with their scale in them."""
    _inject(network, config, seed=0)
    for layer in adapter_layers(network).values():
        layer.scaling[ADAPTER] = 1.0
        nn.init.zeros_(layer.lora_A[ADAPTER].weight)  # nothing that could be taken for the trainer's
        layer.lora_A.to(layer.get_base_layer().weight.dtype)
        layer.lora_B.to(layer.get_base_layer().weight.dtype)
    network.requires_grad_(False).eval()


def _inject(network: PreTrainedModel, config: LoraConfig, seed: int) -> None:
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(peft_config(network, config), network, adapter_name=ADAPTER)


def peft_config(network: PreTrainedModel, config: LoraConfig) -> PeftLoraConfig:
    """What peft is told, now and to load an exported adapter. Raises `ConfigError` on unknown targets."""
    from peft import LoraConfig as PeftLoraConfig

    linear = {
        name.removesuffix(".base_layer"): module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in name
    }
    inner = sorted({name.rsplit(".", 1)[-1] for name in linear if "." in name})
    targets = inner if config.target_modules == "all-linear" else list(config.target_modules)
    if unknown := [name for name in targets if name.rsplit(".", 1)[-1] not in inner]:
        raise ConfigError(f"lora.target_modules {unknown}: no such linear layers; there are {', '.join(inner)}")
    return PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # only ever divided by the rank
        lora_dropout=config.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in linear.values()),
    )


def adapter_layers(network: nn.Module) -> dict[str, Any]:
    """Peft's layers by name; found by what they hold, so that a run without adapters does not import peft."""
    return {name: module for name, module in network.named_modules() if hasattr(module, "lora_A")}


def adapter_weights(network: nn.Module) -> Iterator[tuple[str, nn.Parameter, float]]:
    """(name, parameter, by how much it is multiplied when it is handed on): `A` and `B` of each layer in turn.

    Names are peft's without the adapter's. A layer has `(alpha / r) B A` added to it; the factor goes with `B`, so that
    whoever applies adapters needs no more than these.
    """
    for name, layer in adapter_layers(network).items():
        yield f"{name}.lora_A.weight", layer.lora_A[ADAPTER].weight, 1.0
        yield f"{name}.lora_B.weight", layer.lora_B[ADAPTER].weight, float(layer.scaling[ADAPTER])


def is_adapter(name: str) -> bool:
    """Of a weight as `adapter_weights` names it."""
    return ".lora_" in name


@contextmanager
def adapters_off(network: nn.Module) -> Iterator[None]:
    """The network as it was before any adapter.

    The flag is set and not `enable_adapters` called, which also turns `requires_grad` off and on again and so would
    undo what an optimizer or DeepSpeed hung on the parameters.
    """
    layers = list(adapter_layers(network).values())
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def train_dropout(network: nn.Module) -> None:
    """The dropout a recipe asked for in adapters is the only one that is ever on, and only while training."""
    for layer in adapter_layers(network).values():
        layer.lora_dropout.train()


def merged_weight(layer: Any) -> Tensor:
    """`W + (alpha / r) B A` in float32, without touching the layer."""
    base = layer.get_base_layer()
    delta = layer.get_delta_weight(ADAPTER)
    merged: Tensor = plain(base.weight).float() + delta.detach().float()
    return merged
