"""A model small enough for a test that vLLM runs on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from tests.unit.engines.families import VOCAB_SIZE, write_tokenizer


def write_tied_qwen3(folder: Path) -> str:
    """A tied Qwen3 with heads of 32, the smallest that vLLM's attention takes on a CPU."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    return str(folder)


def write_gpt2(folder: Path) -> str:
    """A family that vLLM runs, without adapters."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=64, n_layer=1, n_head=2, n_positions=64, bos_token_id=2, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return str(folder)
