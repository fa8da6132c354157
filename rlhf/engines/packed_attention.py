"""Attention over rows put end to end without padding, each row on its own, and a prompt once for all its completions.

The fused kernel (`scaled_dot_product_attention`) wants whole rows, so the packed row is cut into groups, and each group
is one call of it, or two: rows of like length are padded to the longest among them, inside the attention alone. Matrix
products, nine tenths of the work, never see a padded token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "rlhf_packed"
"""Under which transformers knows this attention."""
_NAME_UNCOMPILED = "rlhf_packed_uncompiled"

_UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask")
"""What some families ask of attention and this one does not do."""


@dataclass(frozen=True)
class Group:
    """Rows attended to together: `lengths` of them, after `prefix` tokens that all of them share (0: none)."""

    prefix: int
    lengths: tuple[int, ...]
    device: torch.device = field(default=torch.device("cpu"))

    @property
    def size(self) -> int:
        """Tokens of the packed row that belong to the group: the prefix, then the rows."""
        return self.prefix + sum(self.lengths)

    @cached_property
    def real(self) -> Tensor | None:
        """Where the rows' tokens are among those of the padded rows; None where all are of one length."""
        if len(set(self.lengths)) == 1:
            return None
        width = max(self.lengths)
        starts = range(0, width * len(self.lengths), width)
        places = [torch.arange(start, start + length) for start, length in zip(starts, self.lengths, strict=True)]
        return torch.cat(places).to(self.device)

    @cached_property
    def mask(self) -> Tensor:
        """`[T, P + T]`: a token of a row sees the prefix whole, and its own row up to itself."""
        return _visible(max(self.lengths), self.prefix, self.device)

    def pad(self, tokens: Tensor) -> Tensor:
        """`[S, H, D]` as `[R, H, T, D]`."""
        width = max(self.lengths)
        if self.real is not None:
            blank = tokens.new_zeros(len(self.lengths) * width, *tokens.shape[1:])
            tokens = blank.index_copy(0, self.real, tokens)
        return tokens.view(len(self.lengths), width, *tokens.shape[1:]).transpose(1, 2)

    def unpad(self, rows: Tensor) -> Tensor:
        """`[R, H, T, D]` as `[S, H, D]`."""
        tokens = rows.transpose(1, 2).flatten(0, 1)
        return tokens if self.real is None else _Selected.apply(tokens, self.real)  # type: ignore[no-untyped-call]


class _Selected(torch.autograd.Function):
    """`x[index]` for distinct indices: its gradient is a copy, where that of indexing adds row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        blank = grads[0].new_zeros(ctx.rows, *grads[0].shape[1:])
        return blank.index_copy_(0, index, grads[0]), None


def attend(
    groups: tuple[Group, ...],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attention of a packed row, `[N, H, D]`; keys and values may have fewer heads.

    With `window`, a token sees only so many, itself included (Mistral, arXiv:2310.06825).
    """
    sizes = [group.size for group in groups]
    pieces = zip(groups, *(torch.split(states, sizes) for states in (query, key, value)), strict=True)
    return torch.cat([part for group, q, k, v in pieces for part in _of_group(group, q, k, v, scaling, window)])


def _of_group(
    group: Group, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> list[Tensor]:
    options: dict[str, Any] = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if not group.prefix:
        rows = _causal([group.pad(states) for states in (query, key, value)], window, options)
        return [group.unpad(rows)]
    parts = [group.prefix, group.size - group.prefix]
    (q_prefix, q_rows), (k_prefix, k_rows), (v_prefix, v_rows) = (torch.split(x, parts) for x in (query, key, value))
    prefix = [x.transpose(0, 1)[None] for x in (q_prefix, k_prefix, v_prefix)]
    shared = _causal(prefix, window, options)
    keys, values = (
        torch.cat([whole.expand(len(group.lengths), -1, -1, -1), group.pad(own)], dim=2)
        for whole, own in zip(prefix[1:], (k_rows, v_rows), strict=True)
    )
    mask = group.mask if window is None else _visible(max(group.lengths), group.prefix, query.device, window)
    rows = scaled_dot_product_attention(group.pad(q_rows), keys, values, attn_mask=mask, **options)
    return [shared[0].transpose(0, 1), group.unpad(rows)]


def _causal(states: list[Tensor], window: int | None, options: dict[str, Any]) -> Tensor:
    """Attention of rows to themselves; the kernel knows causal masks, and skips what they hide, but no windows."""
    query, key, value = states
    width = query.shape[2]
    if window is None or width <= window:
        return scaled_dot_product_attention(query, key, value, is_causal=True, **options)
    mask = _visible(width, 0, query.device, window)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


def _visible(width: int, prefix: int, device: torch.device, window: int | None = None) -> Tensor:
    """`[T, P + T]`: which of a prefix and its own row a token sees, of the last `window` up to itself."""
    seen = torch.ones(width, prefix + width, dtype=torch.bool, device=device).tril(prefix)
    return seen if window is None else seen.triu(prefix - window + 1)


@dataclass(frozen=True)
class PackedRows:
    """Attends by groups."""

    groups: tuple[Group, ...]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """The same in every layer."""
        return attend(self.groups, query, key, value, scaling=scaling, window=window)


class Attending(Protocol):
    """What is handed through a network to each of its layers, and does the attention there."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """`[N, H, D]` of the tokens of a packed row."""
        ...


def attended_by(attending: Attending, position_ids: Tensor) -> dict[str, Any]:
    """What a network that was given packed attention is called with, besides `input_ids` `[1, N]`."""
    # A mask of four dimensions is passed on as it is; otherwise the one of the whole packed row would be built.
    unread = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=position_ids.device)
    return {"position_ids": position_ids, "attention_mask": unread, "attending": attending}


def use_packed_attention(network: PreTrainedModel, *, compiled: bool = True) -> None:
    """Let the network attend as `attended_by` says wherever it is called with that, and as before elsewhere.

    `compiled=False` keeps it out of what is compiled around it.
    """
    name = NAME if compiled else _NAME_UNCOMPILED
    attention: Any = _attention if compiled else torch.compiler.disable(_attention)  # type: ignore[no-untyped-call]
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    network.set_attn_implementation(name)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attending: Attending | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer, with `[1, H, N, D]`; without `attending`, its own attention."""
    if attending is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **options
        )
    if unknown := [name for name in _UNKNOWN if options.get(name) is not None]:
        raise NotImplementedError(f"packed attention with {', '.join(unknown)}")
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    layer: Any = module.layer_idx
    return attending.attend(layer, query, key, value, scaling, sliding_window)[None], None
