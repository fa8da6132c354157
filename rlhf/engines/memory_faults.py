"""Out of memory, on a device or the host, said as what it is: who was at what, how large it was, what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlhf.errors import RunError

_HOST_SIGNS = ("can't allocate memory", "bad_alloc", "Cannot allocate memory")
"""Of torch's allocator on a CPU, of C++, and of the system; torch raises a plain RuntimeError for each."""
_SHOWN = 300  # characters of the allocator's own words


@contextmanager
def memory_named(who: str, doing: str, lower: str) -> Iterator[None]:
    """Make an allocation that fails inside a `RunError`: `WHO ran out of .. memory while DOING (..); lower LOWER`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        where = _ran_out(error)
        if where is None:
            raise
        said = " ".join((str(error).splitlines() or [""])[0].split()) or type(error).__name__
        raise RunError(f"{who} ran out of {where} memory while {doing} ({said[:_SHOWN]}); lower {lower}") from error


def _ran_out(error: Exception) -> str | None:
    """Which memory there was too little of; None for errors of another kind."""
    if isinstance(error, torch.OutOfMemoryError):
        return "GPU"
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _HOST_SIGNS):
        return "host"
    return None


# What helps, by what was being done: keys of a stage's recipe.
TO_LEARN = "engine.micro_batch_tokens, or set model.gradient_checkpointing, model.lora or a higher engine.zero_stage"
TO_READ = "engine.micro_batch_tokens"
TO_HOLD = "the size of the model, or set model.dtype: bfloat16, model.lora, or engine: deepspeed with zero_stage 3"
