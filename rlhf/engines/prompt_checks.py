"""What every rollout engine asks of prompts, and which tokens end a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf.errors import ConfigError, DataError
from rlhf.types import Prompt, Sampling


def check_prompts(prompts: Sequence[Prompt], sampling: Sampling, vocab_size: int, limit: int | None) -> None:
    """All prompts, and how they are to be answered, before any is run. Raises `DataError` or `ConfigError`."""
    check_sampling(sampling, vocab_size, limit)
    for prompt in prompts:
        ids = prompt.token_ids
        if not ids:
            raise DataError(f"prompt {prompt.id!r} has no tokens")
        if max(ids) >= vocab_size or min(ids) < 0:
            raise DataError(f"prompt {prompt.id!r} has token {max(ids)}; the model's vocabulary has {vocab_size}")
        if limit is not None and len(ids) >= limit:
            raise DataError(
                f"prompt {prompt.id!r} has {len(ids)} tokens, which leaves no room for an answer in the context of "
                f"{limit}; shorten it"
            )
        if limit is not None and len(ids) + sampling.max_tokens > limit:
            raise DataError(
                f"prompt {prompt.id!r} has {len(ids)} tokens and max_tokens is {sampling.max_tokens}, together "
                f"more than the context of {limit}; shorten prompts or lower max_tokens"
            )


def check_sampling(sampling: Sampling, vocab_size: int, limit: int | None) -> None:
    """What no engine can do, in one wording for all. Raises `ConfigError`."""
    if sampling.num_samples < 1:
        raise ConfigError(f"num_samples: at least one completion a prompt, given {sampling.num_samples}")
    if sampling.max_tokens < 1:
        raise ConfigError(f"max_tokens: at least 1, given {sampling.max_tokens}")
    if limit is not None and sampling.max_tokens >= limit:
        raise ConfigError(
            f"max_tokens: {sampling.max_tokens} leaves no room for a prompt in the context of {limit} tokens; lower it"
        )
    if not 0 <= sampling.min_p <= 1:
        raise ConfigError(f"min_p: a share from 0 to 1 of the likeliest token's probability, given {sampling.min_p:g}")
    if "" in sampling.stop:
        raise ConfigError("stop: an empty text would end every completion before it begins; leave it out")
    check_bias(sampling.logit_bias, vocab_size)


def check_bias(logit_bias: Mapping[int, float], vocab_size: int) -> None:
    """Raises `ConfigError` on a token that is none."""
    for token in logit_bias:
        if not 0 <= token < vocab_size:
            raise ConfigError(f"logit_bias: there is no token {token}; the model's vocabulary has {vocab_size}")


def stop_ids_of(tokenizer: Any, generation: Any) -> frozenset[int]:
    """Every token that ends a turn: chat models name several in their generation config."""
    named = [tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)]
    return frozenset(i for ids in named if ids is not None for i in (ids if isinstance(ids, list) else [ids]))
