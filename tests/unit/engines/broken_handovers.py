"""Hand-overs of weights that go wrong, each in its own way, as they have gone wrong elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf.engines.export import live_weights
from rlhf.types import Fingerprint

Weights = dict[str, Tensor]
Spoil = Callable[[Any, Weights], Weights]
"""Given the trainer and what it should send, what it does send."""


class Spoilt:
    """A trainer whose weights are spoilt on their way out; what it trains is untouched."""

    def __init__(self, trainer: Any, spoil: Spoil) -> None:
        self.trainer, self._spoil = trainer, spoil

    def weights(self, **options: bool) -> Iterator[tuple[str, Tensor]]:
        sent = {name: tensor.clone() for name, tensor in self.trainer.weights(**options)}
        return iter(self._spoil(self.trainer, sent).items())

    def fingerprints(self) -> Mapping[str, Fingerprint]:
        told: Mapping[str, Fingerprint] = self.trainer.fingerprints()
        return told


def dropped(_: Any, sent: Weights) -> Weights:
    return {name: tensor for name, tensor in sent.items() if name != "model.layers.1.mlp.up_proj.weight"}


def in_another_format(_: Any, sent: Weights) -> Weights:
    norm = sent["model.norm.weight"]
    return sent | {"model.norm.weight": norm.bfloat16() if norm.dtype == torch.float32 else norm.float()}


def layers_exchanged(_: Any, sent: Weights) -> Weights:
    return {_exchanged(name): tensor for name, tensor in sent.items()}


def _exchanged(name: str) -> str:
    swapped = {"layers.0.": "layers.1.", "layers.1.": "layers.0."}
    found = next((part for part in swapped if part in name), None)
    return name if found is None else name.replace(found, swapped[found])


def one_changed(_: Any, sent: Weights) -> Weights:
    return sent | {"model.layers.1.self_attn.o_proj.weight": sent["model.layers.1.self_attn.o_proj.weight"] * 1.01}


def half_of_one(_: Any, sent: Weights) -> Weights:
    """The second half of a large weight never arrives."""
    whole = sent["model.embed_tokens.weight"].clone()
    whole[len(whole) // 2 :] = 0
    return sent | {name: whole for name in ("model.embed_tokens.weight", "lm_head.weight") if name in sent}


def adapters_left_behind(trainer: Any, sent: Weights) -> Weights:
    return {name: tensor.detach() for name, tensor, _ in live_weights(trainer.model.network)}


def no_adapters(_: Any, sent: Weights) -> Weights:
    return {name: tensor for name, tensor in sent.items() if ".lora_" not in name}


def half_an_adapter(_: Any, sent: Weights) -> Weights:
    return {name: tensor for name, tensor in sent.items() if name != "model.layers.1.mlp.up_proj.lora_B.weight"}


def adapter_without_its_scale(trainer: Any, sent: Weights) -> Weights:
    lora = trainer.spec.model.lora
    return {name: t * lora.rank / lora.alpha if ".lora_B" in name else t for name, t in sent.items()}


def adapters_exchanged(_: Any, sent: Weights) -> Weights:
    return {_exchanged(name) if ".lora_" in name else name: tensor for name, tensor in sent.items()}


SPOILT_ADAPTERS: list[tuple[Spoil, str]] = [
    (half_an_adapter, r"did not send 1 weights .* such as 'model\.layers\.1\.mlp\.up_proj\.lora_B\.weight'"),
    (
        adapters_exchanged,
        r"'model\.layers\.0\.[a-z_.]+lora_A\.weight': what is there is the trainer's 'model\.layers\.1\.[a-z_.]+lora_A",
    ),
    (
        adapter_without_its_scale,
        r"does not hold 14 of the trainer's \d+ weights, first 'model\.layers\.0\.[a-z_.]+\.lora_B\.weight': 64 of 64",
    ),
]
"""Of a model with two layers, handed over with its adapters apart; none is noticed by what is generated alone."""

SPOILT: list[tuple[Spoil, str]] = [
    (dropped, r"did not send 1 weights of the rollout model, such as 'model\.layers\.1\.mlp\.up_proj\.weight'"),
    (in_another_format, r"'model\.norm\.weight' was sent in (bfloat16|float32); the rollout engine holds it in (?!\1)"),
    (
        layers_exchanged,
        r"first 'model\.layers\.0\.[a-z_.]+': what is there is the trainer's 'model\.layers\.1\.[a-z_.]+'; two weights",
    ),
    (one_changed, r"1 of the trainer's \d+ weights, first 'model\.layers\.1\.self_attn\.o_proj\.weight': 64 of 64"),
    (half_of_one, r"of the trainer's \d+ weights, first '[a-z_.]+': 3[0-9] of 64 elements looked at differ"),
]


def grow_adapters(trainer: Any) -> None:
    """As after some steps, when an adapter is more than rounding."""
    with torch.no_grad():
        for name, parameter in trainer.model.network.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05)
