"""Which kind of packing a network can be trusted with, found out by asking it."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import PreTrainedModel

from rlhf.engines.layout import WORTH_SHARING, Packing, layout
from rlhf.engines.packed_attention import use_packed_attention
from rlhf.engines.probes import reads_packed_rows
from rlhf.errors import ConfigError
from rlhf.types import TokenBatch

Wanted = bool | Literal["auto"]


def chosen_packing(network: PreTrainedModel, wanted: Wanted, device_type: str) -> Packing:
    """How to run this network over a batch on a device. Raises `ConfigError` where packing was asked for and cannot be.

    `auto` packs on a CPU and with flash attention. On a GPU other kinds of attention do better with few large calls
    than with many small ones, so rows stay padded there.
    """
    own = str(network.config._attn_implementation)
    if wanted is False or (wanted == "auto" and device_type != "cpu" and "flash" not in own):
        return "none"
    if own == "sdpa" and _groups(network):
        return "groups"
    if (wanted is True or "flash" in own) and _reads(network, "positions"):
        return "positions"
    if wanted is True:
        raise ConfigError(
            f"{type(network).__name__} cannot keep packed rows apart with attention {own!r}; set packing: auto"
        )
    return "none"


def _groups(network: PreTrainedModel) -> bool:
    """Give the network packed attention, or leave it as it is where that does not do what its own does."""
    own = network.config._attn_implementation
    use_packed_attention(network)
    if _reads(network, "groups"):
        return True
    network.set_attn_implementation(own)
    return False


def _reads(network: PreTrainedModel, packing: Packing) -> bool:
    batch = some_rows(network)
    return reads_packed_rows(network, batch, layout(batch, packing))


def some_rows(network: PreTrainedModel) -> TokenBatch:
    """For questions to a network: two samples of one long prompt, which may stand once, and rows of several lengths."""
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 64
    prompt = min(WORTH_SHARING, limit - 4)
    lengths = torch.tensor([prompt + 4, prompt + 2, 5, 3, 5])
    columns = torch.arange(prompt + 4)
    vocab_size = network.config.get_text_config().vocab_size
    tokens = torch.randint(vocab_size, (5, prompt + 4), generator=torch.Generator().manual_seed(0))
    tokens[1, :prompt] = tokens[0, :prompt]
    real = columns < lengths[:, None]
    starts = torch.tensor([prompt, prompt, 2, 1, 0])
    return TokenBatch(tokens=tokens, attention_mask=real, response_mask=real & (columns >= starts[:, None]))
