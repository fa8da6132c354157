"""Writing token after token with transformers' own cache: for networks whose attention is not the plain one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class CachedDecoder:
    """A `Decoder` over left-padded rows."""

    def __init__(self, network: PreTrainedModel) -> None:
        self.network = network

    def start(self, prompts: Sequence[Sequence[int]], num_samples: Sequence[int]) -> Tensor:
        """Logits `[B, V]` of the first token of each sample; a prompt of several samples runs once."""
        device = self.network.device
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        lengths_P1 = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        self._mask = (torch.arange(width, device=device) >= width - lengths_P1).long()
        self._position_B1 = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._cache = DynamicCache(config=self.network.config)
        logits = self._forward(tokens)
        self._position_B1 = lengths_P1
        prompt_B = torch.repeat_interleave(torch.tensor(num_samples)).to(device)
        self.keep(prompt_B)
        return logits[prompt_B]

    def step(self, tokens_B: Tensor) -> Tensor:
        """Logits of the token after these."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens_B), 1)], dim=1)
        logits = self._forward(tokens_B[:, None])
        self._position_B1 = self._position_B1 + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._mask, self._position_B1 = self._mask[rows], self._position_B1[rows]

    def end(self) -> None:
        """Let go of all keys and values."""
        del self._cache

    def _forward(self, tokens: Tensor) -> Tensor:
        output = self.network(
            input_ids=tokens,
            attention_mask=self._mask,
            position_ids=self._position_B1,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]
