"""A plain function as a reward. What it is given is told from the names of its parameters.

| parameters | called | as in |
|---|---|---|
| `prompts`, `completions`, columns | once for all rows, with lists | TRL |
| `queries`, `prompts`, `labels` | once for all rows; queries hold both texts, labels are references | OpenRLHF |
| `prompt`, `completion`, columns | for each row | |
| `data_source`, `solution_str`, `ground_truth`, `extra_info` | for each row | verl |

Besides those there are `messages` (the whole conversation), `reference`, `token_ids`, `finish_reason` and every other
column of the data, each by its name, and all of them for a function that takes `**columns`. It may be `async`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlhf.errors import RewardError, nearest
from rlhf.rewards.answers import batch_scores
from rlhf.rewards.row_calls import Event, RowCalls, finished
from rlhf.types import Rollout, Score

_OF_A_ROW = ("completion", "solution_str")
"""A function with a parameter of one of these names judges one completion."""
_OF_ALL = ("completions", "queries")


class FunctionReward:
    """Adapts a plain function to the `RewardFn` protocol.

    A function of one row is called for `concurrency` of them at a time: by default one after the other, and 32 where
    it is async. An async call that takes longer than `timeout` seconds is cancelled, and its row is an error.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        timeout: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        self.name = name
        parameters = inspect.signature(function).parameters.values()
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._accepted = {p.name for p in named}
        self._required = {p.name for p in named if p.default is p.empty}
        self.per_row = not self._accepted & {*_OF_ALL} and bool(self._accepted & {*_OF_A_ROW})
        self._calls = RowCalls(function, timeout, concurrency)
        given = _row_arguments if self.per_row else _batch_arguments
        self.columns = tuple(sorted(self._required - given([_NO_ROLLOUT]).keys()))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return finished(self.stream(rollouts), len(rollouts))

    def stream(self, rollouts: Sequence[Rollout]) -> Iterator[Event]:
        """Rows as they are begun and as they are judged."""
        if not self.per_row:
            arguments = self._chosen(_batch_arguments(rollouts))
            yield from ((row, None) for row in range(len(rollouts)))
            yield from enumerate(batch_scores(self._calls.once(arguments), len(rollouts)))
            return
        yield from self._calls.stream([self._chosen(_row_arguments([rollout])) for rollout in rollouts])

    def _chosen(self, arguments: dict[str, Any]) -> dict[str, Any]:
        missing = self._required - arguments.keys()
        if missing:
            name, known = min(missing), sorted(arguments)
            raise RewardError(
                f"has a parameter {name!r}, which is no column of the data.{nearest(name, known)} "
                f"Columns: {', '.join(known)}"
            )
        return arguments if self._takes_all else {k: v for k, v in arguments.items() if k in self._accepted}


def _batch_arguments(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    extra = {name for rollout in rollouts for name in rollout.prompt.metadata}
    columns: dict[str, list[Any]] = {name: [r.prompt.metadata.get(name) for r in rollouts] for name in extra}
    references = [r.prompt.reference for r in rollouts]
    return columns | {
        "prompts": [r.prompt.last_user_text for r in rollouts],
        "completions": [r.completion.text for r in rollouts],
        "queries": [r.prompt.last_user_text + r.completion.text for r in rollouts],
        "labels": columns.get("labels", references),
        "reference": references,
        **{name: [_of_both(r)[name] for r in rollouts] for name in _of_both(_NO_ROLLOUT)},
    }


def _row_arguments(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Of the one rollout there is."""
    (rollout,) = rollouts
    prompt, columns = rollout.prompt, dict(rollout.prompt.metadata)
    return columns | {
        "prompt": prompt.last_user_text,
        "completion": rollout.completion.text,
        "solution_str": rollout.completion.text,
        "data_source": columns.get("data_source"),
        "ground_truth": _ground_truth(columns, prompt.reference),
        "extra_info": columns.get("extra_info", columns),
        "reference": prompt.reference,
        **_of_both(rollout),
    }


def _of_both(rollout: Rollout) -> dict[str, Any]:
    """What is called the same of one row and of all."""
    return {
        "messages": rollout.prompt.messages,
        "token_ids": list(rollout.completion.token_ids),
        "completion_ids": list(rollout.completion.token_ids),
        "finish_reason": rollout.completion.finish_reason,
    }


def _ground_truth(columns: Mapping[str, Any], reference: str | None) -> Any:
    """Verl's rows keep it in `reward_model`."""
    nested = columns.get("reward_model")
    known = nested.get("ground_truth") if isinstance(nested, Mapping) else None
    return columns.get("ground_truth", known if known is not None else reference)


def _no_rollout() -> Rollout:
    from rlhf.types import Completion, Prompt

    said = Completion(token_ids=(), logprobs=(), text="", finish_reason="stop")
    return Rollout(prompt=Prompt(id="", text=""), completion=said)


_NO_ROLLOUT = _no_rollout()
