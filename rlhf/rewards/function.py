"""A plain function as a reward: `def reward(prompts, completions, **columns) -> list[float]`.

The function is given, by name, those of these it has parameters for: `prompts` (the text of each question),
`completions` (texts), `messages` (whole conversations), `reference`, `token_ids`, `finish_reason`, and every other
column of the data; all of them if it takes `**columns`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from rlhf.errors import RewardError, nearest
from rlhf.types import Rollout


class FunctionReward:
    """Adapts a plain function to the `RewardFn` protocol."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        parameters = inspect.signature(function).parameters.values()
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._accepted = {p.name for p in named}
        self._required = {p.name for p in named if p.default is p.empty}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        columns = _columns(rollouts)
        missing = self._required - columns.keys()
        if missing:
            name, known = min(missing), sorted(columns)
            raise RewardError(
                f"reward {self.name!r} has a parameter {name!r}, which is no column of the data."
                f"{nearest(name, known)} Columns: {', '.join(known)}"
            )
        given = columns if self._takes_all else {k: v for k, v in columns.items() if k in self._accepted}
        values: list[float | None] = self.function(**given)
        return values


def _columns(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    extra = {name for rollout in rollouts for name in rollout.prompt.metadata}
    columns: dict[str, list[Any]] = {name: [r.prompt.metadata.get(name) for r in rollouts] for name in extra}
    return columns | {
        "prompts": [r.prompt.last_user_text for r in rollouts],
        "completions": [r.completion.text for r in rollouts],
        "messages": [r.prompt.messages for r in rollouts],
        "reference": [r.prompt.reference for r in rollouts],
        "token_ids": [list(r.completion.token_ids) for r in rollouts],
        "finish_reason": [r.completion.finish_reason for r in rollouts],
    }
