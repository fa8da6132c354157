"""What a reward's process is told and answers, as JSON: neither side runs code that the other sends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rlhf.errors import ConfigError
from rlhf.types import Completion, Prompt, Rollout, Score


def rollouts_as_bytes(rollouts: Sequence[Rollout]) -> bytes:
    """Prompts and completions. Raises `ConfigError` for a column of the data that JSON has no form for."""
    rows = [
        {"prompt": vars(r.prompt) | {"metadata": dict(r.prompt.metadata)}, "said": asdict(r.completion)}
        for r in rollouts
    ]
    return json.dumps(rows, default=_plain).encode()


def rollouts_from_bytes(told: bytes) -> list[Rollout]:
    """What `rollouts_as_bytes` was given; tuples within columns are lists."""
    return [Rollout(prompt=_prompt(row["prompt"]), completion=_completion(row["said"])) for row in json.loads(told)]


def event_as_bytes(row: int, score: Score | None) -> bytes:
    """That a row is begun, or what it is worth."""
    return json.dumps([row, None if score is None else asdict(score)]).encode()


def event_from_bytes(told: bytes) -> tuple[int, Score | None]:
    """What `event_as_bytes` was given."""
    row, score = json.loads(told)
    return row, None if score is None else Score(**score)


def _prompt(told: dict[str, Any]) -> Prompt:
    messages = told["messages"]
    return Prompt(**told | {"messages": messages and tuple(messages), "token_ids": tuple(told["token_ids"])})


def _completion(told: dict[str, Any]) -> Completion:
    return Completion(**told | {"token_ids": tuple(told["token_ids"]), "logprobs": tuple(told["logprobs"])})


def _plain(value: Any) -> Any:
    """Arrays and their numbers, as Parquet files have them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise ConfigError(
        f"a column of the data holds a {type(value).__name__}, which cannot be sent to a reward in a process of "
        "its own; store it as text or numbers, or give the reward `processes: 0`"
    )
