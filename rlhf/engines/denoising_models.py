"""Policies that fill in what was taken out of a text: encoders (masked tokens) and encoder-decoders (hidden spans).

They give the log-probs of the tokens that are missing, so every loss over log-probs works on them. They do not
generate, and their rows are never packed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from rlhf.config import RoleSpec
from rlhf.engines.heads import LogprobHead
from rlhf.engines.precision import Precision
from rlhf.engines.pretrained import load_network
from rlhf.errors import ConfigError
from rlhf.functional.logprobs import default_chunk, head_logprobs
from rlhf.types import MaskedBatch, PolicyOutput, SpanBatch


class MaskedModel(nn.Module):
    """Log-prob and entropy of the tokens that stood at chosen places of a text read from both sides."""

    def __init__(self, network: PreTrainedModel, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        head = getattr(network, "cls", None) or getattr(network, "lm_head", None)
        if not isinstance(head, nn.Module):
            raise ConfigError(
                f"{type(network).__name__} has no prediction head this toolkit knows; use a BERT or RoBERTa"
            )
        self.head = head
        self.chunk = default_chunk(network.config.vocab_size)

    def forward(self, tokens: Tensor, mask: Tensor, sources_N: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """`sources_N` index the flattened places of `targets_N`; `mask` [B, T] is True on what may be read."""
        with self.precision.autocast():
            hidden = self.network.base_model(input_ids=tokens, attention_mask=mask.long())[0]
            return head_logprobs(hidden.flatten(0, 1)[sources_N], self.head, targets_N, chunk=self.chunk)


class SpanModel(nn.Module):
    """Log-prob and entropy of a target's tokens, each given those before it and the whole source."""

    start: Tensor

    def __init__(self, network: PreTrainedModel, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.head = LogprobHead(network.get_output_embeddings(), network.config.get_text_config(), temperature=1.0)
        start = torch.tensor([[network.config.decoder_start_token_id]])
        self.register_buffer("start", start, persistent=False)
        if getattr(network.config, "scale_decoder_outputs", False):
            self.head.scale = float(network.config.d_model) ** -0.5

    def forward(
        self, source: Tensor, source_mask: Tensor, tokens: Tensor, sources_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`sources_N` index the flattened `tokens`, each of which is predicted from those before it."""
        before = torch.cat([self.start.expand(len(tokens), 1), tokens[:, :-1]], dim=1)
        with self.precision.autocast():
            read = self.network.get_encoder()(input_ids=source, attention_mask=source_mask.long())[0]
            hidden = self.network.get_decoder()(
                input_ids=before,
                encoder_hidden_states=read,
                encoder_attention_mask=source_mask.long(),
                use_cache=False,
            )[0]
            return self.head(hidden.flatten(0, 1)[sources_N], targets_N, False)  # type: ignore[no-any-return]


def build_denoiser(spec: RoleSpec, precision: Precision, *, packing: bool) -> MaskedModel | SpanModel:
    """The policy of an encoder or encoder-decoder stage. Raises `ConfigError`."""
    if packing:
        raise ConfigError(
            f"engine.packing: rows of an {spec.kind.replace('_', '-')} cannot be packed; set packing: false"
        )
    if spec.model.lora is not None:
        raise ConfigError("model.lora: masked_lm and span_corruption train whole models; leave it out")
    if spec.kind == "encoder":
        masked = MaskedModel(load_network(AutoModelForMaskedLM, spec.model, precision.storage), precision)
        check_masked(masked)
        return masked
    spans = SpanModel(load_network(AutoModelForSeq2SeqLM, spec.model, precision.storage), precision)
    check_spans(spans)
    return spans


def read_masked(model: Any, batch: MaskedBatch) -> PolicyOutput:
    """Log-probs of `batch.targets` where the response mask asks, zero elsewhere."""
    asked = batch.response_mask & batch.attention_mask
    places = torch.arange(asked.numel(), device=asked.device).view(asked.shape)
    found = model(batch.tokens, _readable(batch.attention_mask), places[asked], batch.targets[asked])
    logprobs, entropy = (_scatter(values_N, asked) for values_N in found)
    return PolicyOutput(logprobs=logprobs, entropy=entropy)


def read_spans(model: Any, batch: SpanBatch) -> PolicyOutput:
    """Log-probs of the target tokens where the response mask asks, zero elsewhere."""
    asked = batch.response_mask & batch.attention_mask
    places = torch.arange(asked.numel(), device=asked.device).view(asked.shape)
    found = model(batch.source, _readable(batch.source_mask), batch.tokens, places[asked], batch.tokens[asked])
    logprobs, entropy = (_scatter(values_N, asked) for values_N in found)
    return PolicyOutput(logprobs=logprobs, entropy=entropy)


def _readable(mask: Tensor) -> Tensor:
    """A row without any token reads its padding: attention over nothing is NaN, and would reach every gradient."""
    return mask | ~mask.any(dim=1, keepdim=True)


def _scatter(values_N: Tensor, mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=values_N.dtype, device=mask.device).masked_scatter(mask, values_N)


# --- is what we compute what the network says? -----------------------------------------------------------------------


@torch.no_grad()
def check_masked(model: MaskedModel) -> None:
    """Our reading of an encoder must give the log-probs of its own logits. Raises `ConfigError` where it does not."""
    tokens, places = _some_tokens(model.network)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    ours_N, _ = model(tokens, mask, places, tokens[0])
    with model.precision.autocast():
        logits = model.network(input_ids=tokens, attention_mask=mask.long()).logits
    _require_close(model.network, ours_N, logits, tokens, model.precision)


@torch.no_grad()
def check_spans(model: SpanModel) -> None:
    """The same of an encoder-decoder."""
    tokens, places = _some_tokens(model.network)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    ours_N, _ = model(tokens, mask, tokens, places, tokens[0])
    with model.precision.autocast():
        logits = model.network(input_ids=tokens, attention_mask=mask.long(), labels=tokens).logits
    _require_close(model.network, ours_N, logits, tokens, model.precision)


def _some_tokens(network: PreTrainedModel) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(network.config.vocab_size, (1, 6), generator=torch.Generator().manual_seed(0))
    return tokens.to(network.device), torch.arange(6, device=network.device)


def _require_close(network: PreTrainedModel, ours_N: Tensor, logits: Tensor, tokens: Tensor, how: Precision) -> None:
    theirs_N = logits.float().log_softmax(-1)[0].gather(-1, tokens[0, :, None]).squeeze(-1)
    tolerance = 1e-3 if how.compute == torch.float32 else 0.3
    if not torch.allclose(ours_N, theirs_N, atol=tolerance, rtol=tolerance):
        raise ConfigError(
            f"{type(network).__name__} computes its logits in a way this toolkit does not know; use another"
        )
