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
from rlhf.engines.denoising_models import MaskedModel, SpanModel, build_denoiser, read_masked, read_spans
from rlhf.engines.heads import DivergenceHead, LogprobHead, scalar_head
from rlhf.engines.layout import Layout, Packing, layout
from rlhf.engines.lora import add_adapters
from rlhf.engines.packing import Wanted, chosen_packing
from rlhf.engines.precision import Precision
from rlhf.engines.pretrained import context_limit, load_causal_lm, load_scorer
from rlhf.engines.probes import check_head, check_reads_left_to_right
from rlhf.errors import ConfigError
from rlhf.functional.distillation import Divergence
from rlhf.types import (
    DistilledOutput,
    HeadedRewardOutput,
    MaskedBatch,
    PolicyOutput,
    RewardOutput,
    SpanBatch,
    StepBatch,
    StepOutput,
    TokenBatch,
    ValueOutput,
)

Output = PolicyOutput | ValueOutput | RewardOutput | StepOutput
Network = Callable[..., Any]


class PolicyModel(nn.Module):
    """Log-prob and entropy of chosen tokens."""

    def __init__(self, network: PreTrainedModel, precision: Precision, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.head = LogprobHead(network.get_output_embeddings(), network.config.get_text_config(), temperature)

    def forward(self, rows: Layout, sources_N: Tensor, targets_N: Tensor, entropy_grad: bool) -> tuple[Tensor, ...]:
        """`sources_N` index the flattened tokens whose hidden states predict `targets_N`."""
        with self.precision.autocast():
            hidden = _hidden(self.network, rows)
            return self.head(hidden.flatten(0, 1)[sources_N], targets_N, entropy_grad)  # type: ignore[no-any-return]


class DistilledModel(PolicyModel):
    """A policy beside a frozen teacher: both read the same tokens in one pass, so no logits and no hidden states of a
    batch are held or sent.
    """

    def __init__(
        self, network: PreTrainedModel, precision: Precision, temperature: float, teacher: PolicyModel
    ) -> None:
        super().__init__(network, precision, temperature)
        self.teacher = teacher.requires_grad_(False)
        self.divergence_head = DivergenceHead(self.head, teacher.head)

    def forward(
        self,
        rows: Layout,
        sources_N: Tensor,
        targets_N: Tensor,
        entropy_grad: bool,
        kind: Divergence | None = None,
    ) -> tuple[Tensor, ...]:
        """As any policy; with `kind` also the divergence from the teacher, and then nothing else has a gradient."""
        if kind is None:
            return super().forward(rows, sources_N, targets_N, entropy_grad)
        with self.precision.autocast():
            hidden_NH = _hidden(self.network, rows).flatten(0, 1)[sources_N]
            with torch.no_grad():
                taught_NK = _hidden(self.teacher.network, rows).flatten(0, 1)[sources_N]
                logprobs_N, entropy_N = self.head(hidden_NH, targets_N, False)
            return logprobs_N, entropy_N, self.divergence_head(hidden_NH, taught_NK, kind)


class ScalarModel(nn.Module):
    """One float32 number for each chosen token, or one for each head: a value or a reward model."""

    def __init__(self, network: PreTrainedModel, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.head = scalar_head(network)

    def forward(self, rows: Layout, sources_N: Tensor) -> Tensor:
        with self.precision.autocast():
            hidden = _hidden(self.network, rows)
            scores_NH: Tensor = self.head(hidden.flatten(0, 1)[sources_N]).float()
            return scores_NH.squeeze(-1) if scores_NH.shape[-1] == 1 else scores_NH


RoleModel = PolicyModel | ScalarModel | MaskedModel | SpanModel


def build_model(spec: RoleSpec, precision: Precision, *, packing: Wanted) -> tuple[RoleModel, Packing]:
    """The module of a role, weights loaded, dropout off, adapters in place, and how it is run. Raises `ConfigError`."""
    if spec.kind != "decoder":
        return build_denoiser(spec, precision, packing=packing is True), "none"
    if spec.role in ("policy", "reference"):
        network = load_causal_lm(spec.model, precision.storage, quantize=spec.model.is_quantized)
        check_reads_left_to_right(network)
        policy = PolicyModel(network, precision, spec.temperature)
        check_head(policy, network)
        if spec.teacher is not None:
            policy = DistilledModel(network, precision, spec.temperature, _teacher(spec, network, precision))
        model: RoleModel = policy
    else:
        network = load_scorer(
            spec.model,
            precision.storage,
            role=spec.role,
            seed=spec.seed,
            heads=spec.heads,
            trained=spec.optimizer is not None,
            quantize=spec.model.is_quantized,
        )
        model = ScalarModel(network, precision)
    networks = [network, *([model.teacher.network] if isinstance(model, DistilledModel) else [])]
    how = _packing(networks, packing, precision.device_type)
    if spec.model.lora is not None:
        add_adapters(network, model.head, spec.model.lora, spec.seed)
    return model.requires_grad_(False) if spec.optimizer is None else model, how


def _packing(networks: list[PreTrainedModel], wanted: Wanted, device_type: str) -> Packing:
    """What all of them can do; a policy and its teacher read the same rows."""
    kinds = {chosen_packing(network, wanted, device_type) for network in networks}
    return kinds.pop() if len(kinds) == 1 else "none"


def _teacher(spec: RoleSpec, student: PreTrainedModel, precision: Precision) -> PolicyModel:
    """The frozen teacher of a policy, in the format it computes in. Raises `ConfigError` where rows may not fit it."""
    assert spec.teacher is not None
    network = load_causal_lm(spec.teacher, precision.compute)
    own = context_limit(spec.model, student.config)
    its = context_limit(spec.teacher, network.config)
    if its is not None and (own is None or own > its):
        raise ConfigError(f"teacher: its context is {its} tokens, the student's {own}; set model.max_length to {its}")
    model = PolicyModel(network, precision, temperature=1.0)
    check_head(model, network)
    return model


def read(
    model: Network,
    role: str,
    batch: TokenBatch,
    *,
    packing: Packing,
    share: bool = True,
    entropy_grad: bool = False,
    divergence: Divergence | None = None,
) -> Output:
    """What a role says of a batch; `model` is its module, wrapped or not.

    `share`: packed rows that begin with the same prompt run it once.
    """
    if isinstance(batch, MaskedBatch):
        return read_masked(model, batch)
    if isinstance(batch, SpanBatch):
        return read_spans(model, batch)
    places = layout(batch, packing, share=share)
    if role in ("policy", "reference"):
        return _read_policy(model, batch, places, entropy_grad, divergence)
    if isinstance(batch, StepBatch):
        return _read_steps(model, batch, places)
    if role in ("value", "cost_value"):
        return _read_values(model, batch, places)
    return _read_rewards(model, batch, places)


def _read_policy(
    model: Network, batch: TokenBatch, rows: Layout, entropy_grad: bool, divergence: Divergence | None
) -> PolicyOutput:
    """Only where the response mask asks; zero elsewhere, and in column 0, which nothing predicts."""
    asked = batch.response_mask & batch.attention_mask
    asked = torch.cat([torch.zeros_like(asked[:, :1]), asked[:, 1:]], dim=1)
    sources_N = rows.places[:, :-1][asked[:, 1:]]
    inputs = (rows, sources_N, batch.tokens[asked], entropy_grad)
    if divergence is None:
        logprobs, entropy = (_scatter(values_N, asked) for values_N in model(*inputs))
        return PolicyOutput(logprobs=logprobs, entropy=entropy)
    logprobs, entropy, apart = (_scatter(values_N, asked) for values_N in model(*inputs, kind=divergence))
    return DistilledOutput(logprobs=logprobs, entropy=entropy, divergence=apart)


def _read_values(model: Network, batch: TokenBatch, rows: Layout) -> ValueOutput:
    """The value of a state is read at the token before the one chosen in it."""
    mask = batch.attention_mask
    scores = _scatter(model(rows, rows.places[mask]), mask)
    before = torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], dim=1)
    last_B1 = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return ValueOutput(values=torch.where(mask, before, 0.0), final_values_B=scores.gather(1, last_B1).squeeze(1))


def _read_rewards(model: Network, batch: TokenBatch, rows: Layout) -> RewardOutput:
    """Score at the last real token, by mask: the padding token may be the end of sequence. Blank rows score zero."""
    last_B = batch.attention_mask.sum(dim=1) - 1
    present_B = last_B >= 0
    sources_N = rows.places.gather(1, last_B.clamp(min=0)[:, None]).squeeze(1)[present_B]
    scores = model(rows, sources_N)
    if scores.dim() == 1:
        return RewardOutput(scores_B=_scatter(scores, present_B))
    heads_BH = _scatter(scores, present_B[:, None].expand(-1, scores.shape[1]))
    return HeadedRewardOutput(scores_B=heads_BH.sum(1), heads_BH=heads_BH)


def _read_steps(model: Network, batch: StepBatch, rows: Layout) -> StepOutput:
    """Scores at the ends of steps."""
    ends = batch.response_mask & batch.attention_mask
    scores = model(rows, rows.places[ends])
    if scores.dim() > 1:
        raise ConfigError(f"a reward model with {scores.shape[1]} heads judges whole completions, not their steps")
    return StepOutput(scores=_scatter(scores, ends))


def _scatter(values_N: Tensor, mask: Tensor) -> Tensor:
    """Values back to where the mask is True, zero elsewhere; differentiable."""
    return torch.zeros(mask.shape, dtype=values_N.dtype, device=mask.device).masked_scatter(mask, values_N)


def _hidden(network: PreTrainedModel, rows: Layout) -> Tensor:
    """Last hidden states `[R, N, H]`, after the final norm."""
    return network.base_model(input_ids=rows.tokens, use_cache=False, **rows.arguments())[0]  # type: ignore[no-any-return]
