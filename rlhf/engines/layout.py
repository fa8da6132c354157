"""Where the tokens of a batch stand in the rows a network runs over: padded `[B, T]`, or packed end to end `[1, N]`.

Right padding needs no attention mask: under a causal mask no real token sees what follows it. Packed rows are kept
apart by the groups of `packed_attention`, or by position ids that restart at 0, which flash attention understands.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlhf.engines.packed_attention import Group, PackedRows, attended_by
from rlhf.types import TokenBatch

Packing = Literal["groups", "positions", "none"]
"""How a network is run over a batch: packed with attention by groups, packed with positions that restart, padded."""

ALIKE = 32
"""Rows whose lengths round up to the same multiple of this are attended to together."""
WORTH_SHARING = 32
"""Tokens that sharing a prompt must save; it costs a second call of attention in every layer."""


@dataclass(frozen=True)
class Layout:
    """What a network runs over, and where the batch's tokens are in it."""

    tokens: Tensor  # [R, N]
    position_ids: Tensor | None  # [R, N]; None: 0, 1, 2, ... in every row
    places: Tensor  # [B, T] index of each real token into tokens.flatten(); 0 on padding
    origins: Tensor  # [R * N] index of each of them into the batch's flattened tokens; the first row's, where shared
    groups: tuple[Group, ...] | None = None

    def arguments(self) -> dict[str, Any]:
        """What a network of transformers is told of it, besides the tokens."""
        if self.groups is not None:
            assert self.position_ids is not None
            return attended_by(PackedRows(self.groups), self.position_ids)
        return {} if self.position_ids is None else {"position_ids": self.position_ids}


def layout(batch: TokenBatch, packing: Packing, *, share: bool = True) -> Layout:
    """Packed or padded, as the engine is set; with `share`, a prompt of several rows stands in it once."""
    if packing == "none":
        return padded(batch)
    if packing == "positions":
        return packed(batch, [[row] for row in range(len(batch))], [0] * len(batch), grouped=False)
    shared = prompt_lengths(batch) if share else [0] * len(batch)
    families, shared = _families(batch, shared)
    return packed(batch, families, shared, grouped=True)


def padded(batch: TokenBatch) -> Layout:
    """The rows as they are."""
    rows, width = batch.tokens.shape
    places = torch.arange(rows * width, device=batch.tokens.device)
    return Layout(tokens=batch.tokens, position_ids=None, places=places.view(rows, width), origins=places)


def packed(batch: TokenBatch, families: Sequence[Sequence[int]], shared: Sequence[int], *, grouped: bool) -> Layout:
    """All real tokens in one row, in the order of `families`, rows that share their first `shared[row]` tokens.

    A batch without any keeps one token, so that every process has something to run.
    """
    lengths = batch.lengths_B.tolist()
    if not any(lengths):
        families, lengths = [[0]], [1]
    device, width = batch.tokens.device, batch.tokens.shape[1]
    spans: list[tuple[int, int, int]] = []
    for family in families:
        prefix = shared[family[0]]
        spans += [(family[0], 0, prefix)] * bool(prefix) + [(row, prefix, lengths[row]) for row in family]
    origins = torch.cat([torch.arange(row * width + start, row * width + end) for row, start, end in spans])
    places = torch.zeros(batch.tokens.shape, dtype=torch.long)
    places.view(-1)[origins] = torch.arange(len(origins))
    for family in families:
        if prefix := shared[family[0]]:
            places[list(family), :prefix] = places[family[0], :prefix]
    return Layout(
        tokens=batch.tokens.reshape(-1)[origins.to(device)][None],
        position_ids=(origins % width)[None].to(device),
        places=places.to(device),
        origins=origins.to(device),
        groups=_groups(families, shared, lengths, device) if grouped else None,
    )


def prompt_lengths(batch: TokenBatch) -> list[int]:
    """Tokens of each row before the first that the loss speaks of; 0 where it speaks of none."""
    return torch.where(batch.response_mask.any(dim=1), batch.response_mask.int().argmax(dim=1), 0).tolist()


def prompt_families(batch: TokenBatch, prompts: Sequence[int]) -> list[list[int]]:
    """Rows that begin with the same prompt, together; in the order of the first of each family."""
    families: dict[object, list[int]] = {}
    tokens = batch.tokens.cpu().numpy()
    for row, length in enumerate(prompts):
        family = (length, tokens[row, :length].tobytes()) if length else row
        families.setdefault(family, []).append(row)
    return list(families.values())


def _families(batch: TokenBatch, prompts: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Families that are worth it, then all other rows one by one, those of like length next to each other; and how many
    tokens each row shares.
    """
    shared = [0] * len(prompts)
    together = []
    for family in prompt_families(batch, prompts):
        if prompts[family[0]] * (len(family) - 1) >= WORTH_SHARING:
            together.append(family)
            for row in family:
                shared[row] = prompts[row]
    lengths = batch.lengths_B.tolist()
    alone = [row for row, prompt in enumerate(shared) if not prompt and lengths[row]]
    alone.sort(key=lambda row: -lengths[row])
    return together + [[row] for row in alone], shared


def _groups(
    families: Sequence[Sequence[int]], shared: Sequence[int], lengths: Sequence[int], device: torch.device
) -> tuple[Group, ...]:
    together = [family for family in families if shared[family[0]]]
    alone = [lengths[row] for family in families[len(together) :] for row in family]
    return (
        *(Group(p := shared[family[0]], tuple(lengths[row] - p for row in family), device) for family in together),
        *groups_of_alike(alone, device),
    )


def groups_of_alike(lengths: Sequence[int], device: torch.device) -> tuple[Group, ...]:
    """Rows that share nothing, in this order, neighbours of like length in one group."""
    groups = itertools.groupby(lengths, key=lambda length: -(-length // ALIKE))
    return tuple(Group(0, tuple(alike), device) for _, alike in groups)
