"""The work of one role on one micro-batch, on a network with the right shapes and meaningless numbers.

Run on fake tensors it tells what memory is held, run on real ones (of few layers) how long it takes. It does what the
engines do, operation by operation: products in `compute` under autocast, adapters as peft applies them, log-probs in
chunks with a gradient worked out by hand, layers run again where activations are checkpointed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlhf.config import LoraConfig
from rlhf.functional.logprobs import token_logprobs
from rlhf.planning.network import SCALAR, Network, config_from, empty_network, is_linear

Format = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Work:
    """What a role does with one micro-batch."""

    network: Network
    rows: int
    width: int
    """Tokens of each row."""
    asked: int
    """Tokens in all of them that log-probs are wanted of."""
    weights: Format
    """The format weights are kept in."""
    compute: Format
    """The format of products."""
    trains: bool = True
    lora: LoraConfig | None = None
    adapters: Format = "float32"
    quantised: bool = False
    """The frozen linear layers are NF4 (QLoRA, arXiv:2305.14314)."""
    checkpointing: bool = False
    whole_logits: bool = False
    """Logits of all tokens at once, copied to float32, shifted and held, as other trainers do; ours never."""

    @property
    def tokens(self) -> int:
        return self.rows * self.width

    def of(self, rows: int, width: int) -> Work:
        """The same work on rows of another shape; the same share of their tokens is asked of."""
        asked = max(1, round(self.asked / self.tokens * rows * width))
        return replace(self, rows=rows, width=width, asked=asked)


class Adapted(nn.Module):
    """A frozen layer with an adapter, as peft computes it."""

    def __init__(self, base: nn.Module, inputs: int, outputs: int, lora: LoraConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.base = base
        self.dropout = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
        self.scaling = lora.alpha / lora.rank
        self.a = nn.Linear(inputs, lora.rank, bias=False, dtype=dtype)
        self.b = nn.Linear(lora.rank, outputs, bias=False, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """`base(x) + (alpha / r) B A x`."""
        result: Tensor = self.base(x)
        small = self.b(self.a(self.dropout(x.to(self.a.weight.dtype))))
        adapted: Tensor = (result + small * self.scaling).to(result.dtype)
        return adapted


class Quantised(nn.Module):
    """A frozen linear layer of four bits, whose weight is written out whole while it multiplies."""

    def __init__(self, inputs: int, outputs: int, compute: torch.dtype) -> None:
        super().__init__()
        self.shape, self.compute = (outputs, inputs), compute

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Dequantised.apply(x.to(self.compute), self.shape)  # type: ignore[no-untyped-call]
        return out


class _Dequantised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.shape = shape
        return linear(x, x.new_zeros(shape))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ grads[0].new_zeros(ctx.shape), None


def build(work: Work, layers: int) -> Any:
    """The network, with this many layers; gradients exist where there will be some, as from the second micro-batch."""
    network = empty_network(config_from(work.network.config_json, layers), work.network.kind, _dtype(work.weights))
    if work.lora is not None:
        network.requires_grad_(False)
        _adapt(network, work, work.lora)
    if not work.trains:
        network.requires_grad_(False)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    network.train(work.checkpointing)
    if work.checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return network


def _adapt(network: Any, work: Work, lora: LoraConfig) -> None:
    targets = {layer.name for layer in work.network.targets(lora)}
    head = None if work.network.kind == SCALAR else network.get_output_embeddings()
    chosen = [(name, module) for name, module in network.named_modules() if is_linear(module) and module is not head]
    for name, module in chosen:
        outputs, inputs = module.weight.shape
        base = Quantised(inputs, outputs, _dtype(work.compute)) if work.quantised else module
        leaf = name.rsplit(".", 1)[-1]
        network.set_submodule(
            name, Adapted(base, inputs, outputs, lora, _dtype(work.adapters)) if leaf in targets else base
        )


def run_forward(network: Any, work: Work, device: str = "cpu") -> Tensor:
    """The sum of what the role says of the micro-batch."""
    tokens = torch.zeros(work.rows, work.width, dtype=torch.long)
    with autocast(work, device):
        hidden = _hidden(network, work, tokens).flatten(0, 1)
        chosen = hidden[torch.arange(min(work.asked, len(hidden)))]
        del hidden
        if work.network.kind == SCALAR:
            return chosen.float().sum()
        head = network.get_output_embeddings()
        targets = torch.zeros(len(chosen), dtype=torch.long)
        if work.whole_logits:
            logits = (
                head(chosen).float().view(work.rows, -1, work.network.vocabulary)[:, :-1].contiguous().flatten(0, 1)
            )
            loss = torch.nn.functional.cross_entropy(logits, targets[: len(logits)], reduction="sum")
            loss.logits = logits  # type: ignore[attr-defined]  # others hold on to them until the step is done
            return loss
        logprobs, _ = token_logprobs(chosen, head.weight, targets, bias=getattr(head, "bias", None))
        return logprobs.sum()


def autocast(work: Work, device: str) -> AbstractContextManager[object]:
    """Products in `compute`, as engines set it; weights kept in another low format are computed in as they are."""
    trained = work.weights if work.lora is None else work.adapters
    if work.compute == "float32" or work.weights == work.compute == trained:
        return nullcontext()
    return torch.autocast(device, dtype=_dtype(work.compute))


def _hidden(network: Any, work: Work, tokens: Tensor) -> Tensor:
    """Last hidden states. Embeddings come from nowhere: their gradient, the size of the table, is counted apart."""
    shape = (*tokens.shape, work.network.hidden)
    embedded = torch.zeros(shape, dtype=_dtype(work.weights), requires_grad=work.trains and work.lora is None)
    if work.network.kind == "encoder_decoder":
        read = network.get_encoder()(inputs_embeds=embedded)[0]
        decoded = network.get_decoder()(inputs_embeds=embedded, encoder_hidden_states=read, use_cache=False)
        return decoded[0]  # type: ignore[no-any-return]
    options = {} if work.network.kind == "encoder" else {"use_cache": False}
    base = network if work.network.kind == SCALAR else network.base_model
    return base(inputs_embeds=embedded, **options)[0]  # type: ignore[no-any-return]


def _dtype(name: Format) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype
