"""Writing token after token: prompts run once, packed, and their keys and values are read by all of their samples.

Samples of a batch begin together, so what they have written since needs no padding: `[B, H, t, D]` at step t. Prompts
are of several lengths; their keys are padded and the padding is hidden. Scores over both parts are normalised together:

    softmax([q K_prompt, q K_written]) [V_prompt, V_written]

which is attention over the whole text, with each prompt's keys read once for all of its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from rlhf.engines.heads import LogprobHead
from rlhf.engines.layout import groups_of_alike
from rlhf.engines.packed_attention import Group, attend, attended_by, use_packed_attention

ROOM = 64
"""Tokens there is room for at first; it doubles whenever it is full."""
READ_AT_ONCE = 8192
"""Tokens of prompts run through the network in one call, which bounds the memory of its activations."""


class Decoder(Protocol):
    """What writes one batch of samples."""

    def start(self, prompts: Sequence[Sequence[int]], num_samples: Sequence[int]) -> Tensor:
        """Logits `[B, V]` of the first token of each sample; those of a prompt stand next to each other."""
        ...

    def step(self, tokens_B: Tensor) -> Tensor:
        """Logits of the token after these."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...

    def end(self) -> None:
        """Let go of all keys and values."""
        ...


@dataclass
class _Layer:
    """Keys and values of one layer."""

    prompt_keys: Tensor  # [P, H, W, D]
    prompt_values: Tensor
    keys: Tensor  # [B, H, room, D]
    values: Tensor


class Shared:
    """What all layers of a batch have in common, and the attention over it."""

    def __init__(self, lengths: Sequence[int], num_samples: Sequence[int], device: torch.device) -> None:
        self.groups: tuple[Group, ...] = ()
        """Prompts that are being read."""
        self.lengths_P = torch.tensor(lengths, device=device)
        self.width = max(lengths)
        self.prompt_B = torch.repeat_interleave(
            torch.arange(len(num_samples), device=device), torch.tensor(num_samples, device=device)
        )
        self.each = num_samples[0] if len(set(num_samples)) == 1 else None
        """Samples of each prompt while all have as many; otherwise every row has its prompt to itself."""
        self.written = 0
        self.layers: dict[int, _Layer] = {}
        self._prompts: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._hidden: dict[int | None, Tensor] = {}

    def begin(self) -> None:
        """The prompts are read: from here on each call brings one token a row."""
        self.groups = ()
        for number, pieces in self._prompts.items():
            keys, values = (torch.cat(states) for states in zip(*pieces, strict=True))
            room = (len(self.prompt_B), keys.shape[1], ROOM)
            written = (states.new_empty(*room, states.shape[3]) for states in (keys, values))
            self.layers[number] = _Layer(keys, values, *written)
        self._prompts = {}
        if self.each is None:
            self._own_prompts(self.prompt_B)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """`[N, H, D]` of the tokens just read, which are remembered."""
        if self.groups:
            self._prompts.setdefault(layer, []).append((self._padded(key), self._padded(value)))
            return attend(self.groups, query, key, value, scaling=scaling, window=window)
        return self._of_step(self._written(layer, key, value), query, scaling, window)

    def forget(self) -> None:
        """A step is over."""
        self.written += 1
        self._hidden = {}

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        for layer in self.layers.values():
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        self._own_prompts(self.prompt_B[rows])

    def _own_prompts(self, index: Tensor) -> None:
        """A copy of its prompt for every row."""
        self.each, self.prompt_B = 1, torch.arange(len(index), device=index.device)
        self.lengths_P = self.lengths_P[index]
        for layer in self.layers.values():
            layer.prompt_keys, layer.prompt_values = layer.prompt_keys[index], layer.prompt_values[index]
        self._hidden = {}

    def _padded(self, states: Tensor) -> Tensor:
        """`[P, H, W, D]`: what was read of some prompts, as wide as the longest of all."""
        pieces = torch.split(states, [group.size for group in self.groups])
        rows = [group.pad(piece) for group, piece in zip(self.groups, pieces, strict=True)]
        return torch.cat([pad(row, (0, 0, 0, self.width - row.shape[2])) for row in rows])

    def _written(self, number: int, key: Tensor, value: Tensor) -> _Layer:
        layer = self.layers[number]
        if self.written == layer.keys.shape[2]:
            layer.keys, layer.values = (torch.cat([x, torch.empty_like(x)], dim=2) for x in (layer.keys, layer.values))
        layer.keys[:, :, self.written], layer.values[:, :, self.written] = key, value
        return layer

    def _of_step(self, layer: _Layer, query: Tensor, scaling: float | None, window: int | None) -> Tensor:
        rows, heads, size = query.shape
        assert self.each is not None
        prompts, kv_heads = layer.prompt_keys.shape[:2]
        queries = heads // kv_heads  # that read one head of keys
        query = query * (size**-0.5 if scaling is None else scaling)

        def by_prompt(states: Tensor) -> Tensor:
            """`[B, KV, Q, X]` as `[P, KV, n Q, X]`."""
            if self.each == 1:
                return states
            return states.view(prompts, -1, kv_heads, queries, states.shape[-1]).transpose(1, 2).flatten(2, 3)

        def by_row(states: Tensor) -> Tensor:
            if self.each == 1:
                return states
            whole = states.view(prompts, kv_heads, -1, queries, states.shape[-1]).transpose(1, 2)
            return whole.reshape(rows, kv_heads, queries, states.shape[-1])

        first = 0 if window is None else max(0, self.written + 1 - window)
        keys, values = (x[:, :, first : self.written + 1] for x in (layer.keys, layer.values))
        grouped = query.view(rows, kv_heads, queries, size)
        before = torch.matmul(by_prompt(grouped), layer.prompt_keys.transpose(2, 3)) + self._bias(window, query.dtype)
        since = torch.matmul(grouped, keys.transpose(2, 3))
        weights = torch.cat([by_row(before), since], dim=-1).softmax(dim=-1)
        before, since = torch.split(weights, [self.width, since.shape[-1]], dim=-1)
        out = by_row(torch.matmul(by_prompt(before), layer.prompt_values)) + torch.matmul(since, values)
        return out.reshape(rows, heads, -1)

    def _bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """`[P, 1, 1, W]`: minus infinity on padding, and on what is too far back."""
        if window not in self._hidden:
            column = torch.arange(self.width, device=self.lengths_P.device)
            hidden = column >= self.lengths_P[:, None]
            if window is not None:
                hidden = hidden | (column <= self.lengths_P[:, None] + self.written - window)
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, -torch.inf)
            self._hidden[window] = bias[:, None, None, :]
        return self._hidden[window]


def _pieces(prompts: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """The prompts, in order, as many at once as may be read, or one."""
    pieces: list[list[Sequence[int]]] = [[]]
    for prompt in prompts:
        if pieces[-1] and sum(map(len, pieces[-1])) + len(prompt) > READ_AT_ONCE:
            pieces.append([])
        pieces[-1].append(prompt)
    return pieces


class SharedPromptDecoder:
    """A `Decoder` for networks whose attention is the plain one, and which give theirs to it."""

    def __init__(self, network: PreTrainedModel) -> None:
        use_packed_attention(network)
        self.network = network
        self.head = LogprobHead(network.get_output_embeddings(), network.config.get_text_config(), temperature=1.0)

    def start(self, prompts: Sequence[Sequence[int]], num_samples: Sequence[int]) -> Tensor:
        """Logits `[B, V]` of the first token of each sample; those of a prompt stand next to each other."""
        lengths = [len(prompt) for prompt in prompts]
        self._shared = Shared(lengths, num_samples, self.network.device)
        self._position_B = self._shared.lengths_P[self._shared.prompt_B]
        logits = torch.cat([self._read(piece) for piece in _pieces(prompts)])[self._shared.prompt_B]
        self._shared.begin()
        return logits

    def step(self, tokens_B: Tensor) -> Tensor:
        """Logits of the token after these."""
        logits = self.head.logits(self._hidden(tokens_B, self._position_B))
        self._shared.forget()
        self._position_B = self._position_B + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._shared.keep(rows)
        self._position_B = self._position_B[rows]

    def end(self) -> None:
        """Let go of all keys and values."""
        del self._shared

    def _read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Logits `[P, V]` after each prompt, whose keys and values are kept."""
        device = self.network.device
        lengths = [len(prompt) for prompt in prompts]
        self._shared.groups = groups_of_alike(lengths, device)
        tokens = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        hidden = self._hidden(tokens, torch.cat([torch.arange(length) for length in lengths]).to(device))
        return self.head.logits(hidden[torch.tensor(lengths, device=device).cumsum(0) - 1])

    def _hidden(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """Last hidden states `[N, H]`."""
        arguments = attended_by(self._shared, positions_N[None])
        return self.network.base_model(input_ids=tokens_N[None], use_cache=False, **arguments)[0][0]  # type: ignore[no-any-return]
