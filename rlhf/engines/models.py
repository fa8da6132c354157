"""The module of each role, and how a batch is read by it.

A module takes plain tensors and returns one value for each selected token; `read` selects the tokens a role speaks of
and puts the values back into `[B, T]`. Tensors, and autocast entered inside, are what DeepSpeed can wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.config import RoleSpec
from rlhf.engines.heads import LogprobHead, scalar_head
from rlhf.engines.layout import Layout, layout
from rlhf.engines.lora import add_adapters
from rlhf.engines.precision import Precision
from rlhf.engines.pretrained import load_causal_lm, load_scorer
from rlhf.engines.probes import check_head, check_packing
from rlhf.types import PolicyOutput, RewardOutput, TokenBatch, ValueOutput

Output = PolicyOutput | ValueOutput | RewardOutput
Network = Callable[..., Any]


class PolicyModel(nn.Module):
    """Log-prob and entropy of chosen tokens."""

    def __init__(self, network: PreTrainedModel, precision: Precision, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.head = LogprobHead(network.get_output_embeddings(), network.config.get_text_config(), temperature)

    def forward(
        self, tokens: Tensor, position_ids: Tensor | None, sources_N: Tensor, targets_N: Tensor, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """`sources_N` index the flattened tokens whose hidden states predict `targets_N`."""
        with self.precision.autocast():
            hidden = _hidden(self.network, tokens, position_ids)
            return self.head(hidden.flatten(0, 1)[sources_N], targets_N, entropy_grad)  # type: ignore[no-any-return]


class ScalarModel(nn.Module):
    """One float32 number for each chosen token: a value or a reward model."""

    def __init__(self, network: PreTrainedModel, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.head = scalar_head(network)

    def forward(self, tokens: Tensor, position_ids: Tensor | None, sources_N: Tensor) -> Tensor:
        with self.precision.autocast():
            hidden = _hidden(self.network, tokens, position_ids)
            return self.head(hidden.flatten(0, 1)[sources_N]).squeeze(-1).float()  # type: ignore[no-any-return]


RoleModel = PolicyModel | ScalarModel


def build_model(spec: RoleSpec, precision: Precision, *, packing: bool) -> RoleModel:
    """The module of a role: weights loaded, dropout off, adapters in place. Raises `ConfigError`."""
    if spec.role in ("policy", "reference"):
        network = load_causal_lm(spec.model, precision.storage)
        policy = PolicyModel(network, precision, spec.temperature)
        check_head(policy, network)
        model: RoleModel = policy
    else:
        network = load_scorer(spec.model, precision.storage, role=spec.role, seed=spec.seed)
        model = ScalarModel(network, precision)
    if packing:
        check_packing(network)
    if spec.model.lora is not None:
        add_adapters(network, model.head, spec.model.lora, spec.seed)
    return model.requires_grad_(False) if spec.optimizer is None else model


def read(model: Network, role: str, batch: TokenBatch, *, packing: bool, entropy_grad: bool = False) -> Output:
    """What a role says of a batch; `model` is its module, wrapped or not."""
    places = layout(batch, packing)
    if role in ("policy", "reference"):
        return _read_policy(model, batch, places, entropy_grad)
    return _read_values(model, batch, places) if role == "value" else _read_rewards(model, batch, places)


def _read_policy(model: Network, batch: TokenBatch, rows: Layout, entropy_grad: bool) -> PolicyOutput:
    """Only where the response mask asks; zero elsewhere, and in column 0, which nothing predicts."""
    asked = batch.response_mask & batch.attention_mask
    asked = torch.cat([torch.zeros_like(asked[:, :1]), asked[:, 1:]], dim=1)
    sources_N = rows.places[:, :-1][asked[:, 1:]]
    logprobs_N, entropy_N = model(rows.tokens, rows.position_ids, sources_N, batch.tokens[asked], entropy_grad)
    return PolicyOutput(logprobs=_scatter(logprobs_N, asked), entropy=_scatter(entropy_N, asked))


def _read_values(model: Network, batch: TokenBatch, rows: Layout) -> ValueOutput:
    """The value of a state is read at the token before the one chosen in it."""
    mask = batch.attention_mask
    scores = _scatter(model(rows.tokens, rows.position_ids, rows.places[mask]), mask)
    before = torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], dim=1)
    last_B1 = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return ValueOutput(values=torch.where(mask, before, 0.0), final_values_B=scores.gather(1, last_B1).squeeze(1))


def _read_rewards(model: Network, batch: TokenBatch, rows: Layout) -> RewardOutput:
    """Score at the last real token, by mask: the padding token may be the end of sequence. Blank rows score zero."""
    last_B = batch.attention_mask.sum(dim=1) - 1
    present_B = last_B >= 0
    sources_N = rows.places.gather(1, last_B.clamp(min=0)[:, None]).squeeze(1)[present_B]
    return RewardOutput(scores_B=_scatter(model(rows.tokens, rows.position_ids, sources_N), present_B))


def _scatter(values_N: Tensor, mask: Tensor) -> Tensor:
    """Values back to where the mask is True, zero elsewhere; differentiable."""
    return torch.zeros(mask.shape, dtype=values_N.dtype, device=mask.device).masked_scatter(mask, values_N)


def _hidden(network: PreTrainedModel, tokens: Tensor, position_ids: Tensor | None) -> Tensor:
    """Last hidden states `[R, N, H]`, after the final norm."""
    arguments = {} if position_ids is None else {"position_ids": position_ids}
    return network.base_model(input_ids=tokens, use_cache=False, **arguments)[0]  # type: ignore[no-any-return]
