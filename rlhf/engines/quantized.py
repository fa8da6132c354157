"""Frozen linear layers in four bits beneath adapters (QLoRA: Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes.

Weights are NF4, their scales quantized once more. Whoever needs one whole, to hand it on or to write it, gets the
values it stands for, which are the ones it was trained with.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from rlhf.errors import ConfigError

_WHOLE = ["lm_head", "embed_out", "score", "classifier", "qa_outputs"]
"""Heads stay as they are: log-probs and scores come straight from them."""


def loading_in_four_bits(compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told. Raises `ConfigError` without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("model.lora.quantize: bitsandbytes is not installed; pip install 'rlhf[qlora]'")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=_WHOLE,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_as_loaded(network: Any) -> None:
    """On CPUs with bfloat16 bitsandbytes would repack weights when they are first read without a gradient, and round
    their scales in doing so: what is scored and sampled would not be what is trained.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def forget_quantizer(network: Any) -> None:
    """A network like any other from here on: what is written of it is whole, and says so."""
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.hf_quantizer = None
    network.is_loaded_in_4bit = network.is_quantized = False
    network.quantization_method = None


def is_quantized(tensor: Tensor) -> bool:
    """Of a parameter."""
    return getattr(tensor, "quant_state", None) is not None


def plain(tensor: Any) -> Tensor:
    """The values of a parameter: what four bits stand for, or the parameter itself, without its history."""
    if not is_quantized(tensor):
        found: Tensor = tensor.detach()
        return found
    from bitsandbytes.functional import dequantize_4bit

    whole: Tensor = dequantize_4bit(tensor.data, tensor.quant_state)
    return whole


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Of the weight that a parameter stands for, whole: four bits are held packed, and ZeRO-3 cuts."""
    if is_quantized(tensor):
        return tuple(tensor.quant_state.shape)
    return tuple(getattr(tensor, "ds_shape", tensor.shape))
