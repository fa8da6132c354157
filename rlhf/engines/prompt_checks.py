"""What every rollout engine asks of prompts, and which tokens end a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf.errors import DataError
from rlhf.types import Prompt, Sampling


def check_prompts(prompts: Sequence[Prompt], sampling: Sampling, vocab_size: int, limit: int | None) -> None:
    """All prompts before any is run. Raises `DataError`."""
    for prompt in prompts:
        ids = prompt.token_ids
        if not ids:
            raise DataError(f"prompt {prompt.id!r} has no tokens")
        if max(ids) >= vocab_size or min(ids) < 0:
            raise DataError(f"prompt {prompt.id!r} has token {max(ids)}; the model's vocabulary has {vocab_size}")
        if limit is not None and len(ids) + sampling.max_tokens > limit:
            raise DataError(
                f"prompt {prompt.id!r} has {len(ids)} tokens and max_tokens is {sampling.max_tokens}, together "
                f"more than the context of {limit}; shorten prompts or lower max_tokens"
            )


def stop_ids_of(tokenizer: Any, generation: Any) -> frozenset[int]:
    """Every token that ends a turn: chat models name several in their generation config."""
    named = [tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)]
    return frozenset(i for ids in named if ids is not None for i in (ids if isinstance(ids, list) else [ids]))
