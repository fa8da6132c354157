"""A network's layers through `torch.compile`, one graph for all of them and for rows of any length.

Attention by groups stays outside: it is Python that goes by the lengths of the rows, and would be compiled anew for
every batch. What is compiled is the rest of a layer, before it and after it.
"""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf.config import RoleSpec
from rlhf.engines.layout import Layout, Packing, layout
from rlhf.engines.microbatches import to_device
from rlhf.engines.packed_attention import use_packed_attention
from rlhf.engines.packing import some_rows
from rlhf.engines.precision import Precision
from rlhf.engines.probes import tolerance
from rlhf.errors import ConfigError

_WITHOUT = "leave engine.compile out"


def compile_layers(network: PreTrainedModel, spec: RoleSpec, precision: Precision, packing: Packing) -> None:
    """Compile the layers of a network in training, where it then says what it said before.

    It is asked once, with its gradients, so that what cannot be compiled shows before the run begins. Raises
    `ConfigError` on a network without layers that transformers marks as such, and without a C++ compiler.
    """
    layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    if spec.kind != "decoder" or not layers:
        raise ConfigError(f"engine.compile: {type(network).__name__} is no decoder of like layers; {_WITHOUT}")
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise ConfigError(f"engine.compile: torch.compile needs a C++ compiler, and there is none; {_WITHOUT}")
    rows = layout(to_device(some_rows(network), network.device), packing)
    before = _answer(network, layers[0], rows, precision)
    if packing == "groups":
        use_packed_attention(network, compiled=False)
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        after = _answer(network, layers[0], rows, precision)
    except RuntimeError as error:  # whatever dynamo, inductor or the C++ compiler have to say
        said = str(error).strip().splitlines()[0]
        raise ConfigError(f"engine.compile: {type(network).__name__} does not compile: {said}; {_WITHOUT}") from error
    close = tolerance(precision.compute)
    if any(float((one - other).norm()) > close * float(one.norm()) for one, other in zip(before, after, strict=True)):
        raise ConfigError(f"engine.compile: {type(network).__name__} says something else when compiled; {_WITHOUT}")


def _answer(network: PreTrainedModel, first: nn.Module, rows: Layout, precision: Precision) -> list[Tensor]:
    """Last hidden states, and gradients that have come through all layers."""
    with precision.autocast():
        hidden: Tensor = network.base_model(input_ids=rows.tokens, use_cache=False, **rows.arguments())[0]
    trained = [parameter for parameter in first.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(hidden.float().pow(3).sum(), trained)
    return [hidden.detach().float(), *(gradient.float() for gradient in gradients)]
