"""Tiny models of many families, written to folders as a user's would be, and batches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from rlhf.types import TokenBatch

VOCAB_SIZE = 61

_SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 1, "head_dim": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **_GROUPED, "tie_word_embeddings": False},
    "llama-tied": {"model_type": "llama", **_GROUPED, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **_GROUPED, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", **_GROUPED, "tie_word_embeddings": False},
    "mistral": {"model_type": "mistral", **_GROUPED, "sliding_window": 5},
    "gemma": {"model_type": "gemma", **_GROUPED},
    "gemma2": {"model_type": "gemma2", **_GROUPED, "sliding_window": 5, "final_logit_softcapping": 2.0},
    "gemma3": {"model_type": "gemma3_text", **_GROUPED, "sliding_window": 5},
    "phi": {"model_type": "phi", **_SMALL, "resid_pdrop": 0.3},
    "gpt2": {"model_type": "gpt2", **_SMALL, "n_positions": 64},
    "gpt_neox": {"model_type": "gpt_neox", **_SMALL},
    "cohere": {"model_type": "cohere", **_GROUPED, "logit_scale": 0.25},
    "granite": {"model_type": "granite", **_GROUPED, "logits_scaling": 4.0},
}


def write_model(family: str, folder: Path, seed: int = 0) -> str:
    """A random model of a family in `folder`; biases and norms are random too, so that nothing is neutral."""
    torch.manual_seed(seed)
    options = dict(FAMILIES[family])
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return str(folder)


def write_tokenizer(folder: Path) -> None:
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, **{f"w{i}": i for i in range(3, VOCAB_SIZE)}}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    ).save_pretrained(folder)


def make_batch(lengths: list[int], width: int | None = None, seed: int = 0, prompt: int = 2) -> TokenBatch:
    """Random rows; padding is filled with random tokens, which must not matter. The first `prompt` tokens are given."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    tokens = torch.randint(3, VOCAB_SIZE, (len(lengths), width), generator=generator)
    attention_mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    response_mask = attention_mask & (torch.arange(width) >= prompt)
    return TokenBatch(tokens=tokens, attention_mask=attention_mask, response_mask=response_mask)
