"""A model by its shapes: how many numbers it has and where, read off an empty network of its own class."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlhf.config import LoraConfig
from rlhf.config.model_files import why_not_loaded
from rlhf.errors import ConfigError

SCALAR = "scalar"
"""Besides the kinds of a policy: a decoder with one number on top, a value or a reward model."""


@dataclass(frozen=True)
class Linear:
    """A layer that multiplies; `outputs x inputs` weights, of which there are `count` alike."""

    name: str
    inputs: int
    outputs: int
    count: int
    in_expert: bool = False

    @property
    def size(self) -> int:
        """Weights of all of them."""
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True)
class Network:
    """What planning knows of a model."""

    source: str
    """How it is called in messages."""
    config_json: str
    kind: str
    """decoder, encoder, encoder_decoder, or `SCALAR`."""
    parameters: int
    embedding: int
    """Of them in the table of input embeddings; read, not multiplied."""
    head: int
    """Of them in the output head; 0 where that is the table of embeddings."""
    largest: int
    """Of the largest single parameter."""
    linears: tuple[Linear, ...]
    """Without the output head."""
    layers: int
    hidden: int
    vocabulary: int
    context: int | None
    cache_entries: int
    """Numbers kept of each token for generation: keys and values of all layers."""
    experts_used: float = 1.0
    """Share of the experts that a token goes through."""

    @property
    def active(self) -> float:
        """Weights that multiply for each token, without the output head."""
        return sum(layer.size * (self.experts_used if layer.in_expert else 1.0) for layer in self.linears)

    @property
    def head_size(self) -> int:
        """Weights of the output head, which may be those of the embeddings."""
        return 0 if self.kind == SCALAR else self.vocabulary * self.hidden

    def adapter_parameters(self, lora: LoraConfig) -> int:
        """Trainable numbers of these adapters. Raises `ConfigError` on targets the model has not."""
        return sum(layer.count * lora.rank * (layer.inputs + layer.outputs) for layer in self.targets(lora))

    def targets(self, lora: LoraConfig) -> tuple[Linear, ...]:
        """The layers that get adapters."""
        inner = {layer.name for layer in self.linears}
        if lora.target_modules == "all-linear":
            return self.linears
        names = {name.rsplit(".", 1)[-1] for name in lora.target_modules}
        if unknown := sorted(names - inner):
            raise ConfigError(
                f"lora.target_modules {unknown}: {self.source} has no such linear layers; there are "
                f"{', '.join(sorted(inner))}"
            )
        return tuple(layer for layer in self.linears if layer.name in names)


def read_config(path: str, revision: str | None = None) -> Any:
    """The configuration of a folder or hub name, and nothing else of it. Raises `ConfigError`."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:
        reason = why_not_loaded(error)
        raise ConfigError(f"model: the configuration of {path!r} cannot be read: {reason}") from error


def network_of(config: Any, kind: str = "decoder", source: str = "the model") -> Network:
    """The shapes of a configuration of transformers. Raises `ConfigError` on one that no class here stands for."""
    return _network_of(json.dumps(config.to_diff_dict() | {"model_type": config.model_type}, default=str), kind, source)


@lru_cache(maxsize=64)
def _network_of(config_json: str, kind: str, source: str) -> Network:
    import torch

    config = config_from(config_json)
    try:
        with torch.device("meta"):
            network = empty_network(config, kind)
    except (ValueError, KeyError, ImportError, NotImplementedError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"model: {source} is of the architecture {config.model_type!r}, which cannot be planned as "
            f"{'a scalar model' if kind == SCALAR else kind}: {str(error).splitlines()[0]}"
        ) from error
    text = config.get_text_config()
    table = network.get_input_embeddings().weight
    head = getattr(network.get_output_embeddings(), "weight", None) if kind != SCALAR else None
    own = {parameter: parameter.numel() for parameter in network.parameters()}
    layers = num_layers(config)
    heads = getattr(text, "num_attention_heads", 1)
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Network(
        source=source,
        config_json=config_json,
        kind=kind,
        parameters=sum(own.values()),
        embedding=table.numel(),
        head=0 if head is None or head is table else head.numel(),
        largest=max(own.values()),
        linears=tuple(_linears(network, head)),
        layers=layers,
        hidden=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        context=getattr(text, "max_position_embeddings", None),
        cache_entries=2 * layers * kv_heads * head_size,
        experts_used=_experts_used(text),
    )


def config_from(config_json: str, layers: int | None = None) -> Any:
    """The configuration back, with another number of layers where one is given."""
    from transformers import CONFIG_MAPPING

    table = json.loads(config_json)
    config = CONFIG_MAPPING[table["model_type"]].from_dict(table)
    if layers is None:
        return config
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "num_decoder_layers", None):
        text.num_decoder_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = (text.layer_types * layers)[:layers]
    return config


def num_layers(config: Any) -> int:
    """On each side, where there are two."""
    return int(config.get_text_config().num_hidden_layers)


def empty_network(config: Any, kind: str, dtype: Any = None) -> Any:
    """A network of this configuration on the current device, without an output head where it is a scalar model."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    classes: dict[str, Any] = {
        "decoder": AutoModelForCausalLM,
        "encoder": AutoModelForMaskedLM,
        "encoder_decoder": AutoModelForSeq2SeqLM,
        SCALAR: AutoModel,
    }
    options = {} if dtype is None else {"dtype": dtype}
    return classes[kind].from_config(config, trust_remote_code=False, **options)


def is_linear(module: Any) -> bool:
    """Layers that multiply, as peft takes them for adapters."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _linears(network: Any, head: Any) -> Iterator[Linear]:
    """Alike ones once; a bank of experts, which is one parameter of three dimensions, as one layer for each."""
    found: dict[tuple[str, int, int, bool], int] = {}
    for name, module in network.named_modules():
        if is_linear(module) and module.weight is not head:
            outputs, inputs = module.weight.shape
            key = (name.rsplit(".", 1)[-1], inputs, outputs, ".experts." in name)
            found[key] = found.get(key, 0) + 1
    for name, parameter in network.named_parameters():
        if parameter.dim() == 3 and ".experts" in name:
            experts, outputs, inputs = parameter.shape
            key = (name.rsplit(".", 1)[-1], inputs, outputs, True)
            found[key] = found.get(key, 0) + experts
    for (name, inputs, outputs, in_expert), count in found.items():
        yield Linear(name, inputs, outputs, count, in_expert)


def _experts_used(text: Any) -> float:
    total = next(
        (getattr(text, n) for n in ("num_local_experts", "num_experts", "n_routed_experts") if hasattr(text, n)), 0
    )
    used = getattr(text, "num_experts_per_tok", 0)
    return used / total if total and used else 1.0
