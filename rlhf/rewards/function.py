"""A plain function as a reward. What it is given is told from the names of its parameters.

| parameters | called | as in |
|---|---|---|
| `prompts`, `completions`, columns | once for all rows, with lists | TRL |
| `queries`, `prompts`, `labels` | once for all rows; queries hold both texts, labels are references | OpenRLHF |
| `prompt`, `completion`, columns | for each row | |
| `data_source`, `solution_str`, `ground_truth`, `extra_info` | for each row | verl |
| `data_sources`, `solution_strs`, `ground_truths`, `extra_infos` | once for all rows | verl, in batches |

Besides those there are `messages` (the whole conversation), `reference`, `token_ids`, `finish_reason` and every other
column of the data, each by its name, and all of them for a function that takes `**columns`. It may be `async`.

Prompts and completions are texts. In place of them a function of `completions` that reads turns (`turn_readers`) is
given, where the data's prompt is a conversation, what TRL gives: the prompt as a list of turns, and the completion as a
list of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlhf.errors import RewardError, nearest
from rlhf.rewards.answers import batch_scores
from rlhf.rewards.row_calls import Event, RowCalls, finished
from rlhf.rewards.turn_readers import reads_turns
from rlhf.types import Message, Rollout, Score

_OF_A_ROW = ("completion", "solution_str")
"""A function with a parameter of one of these names judges one completion."""
_OF_ALL = ("completions", "queries", "solution_strs")


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
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`options` are given to it as they are, and go before columns of their names."""
        self.name = name
        self._options = dict(options or {})
        parameters = inspect.signature(function).parameters.values()
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._accepted = {p.name for p in named}
        self._required = {p.name for p in named if p.default is p.empty}
        self.per_row = not self._accepted & {*_OF_ALL} and bool(self._accepted & {*_OF_A_ROW})
        self.reads_turns = "completions" in self._accepted and not self.per_row and reads_turns(function)
        self._calls = RowCalls(function, timeout, concurrency)
        known = self._given([_NO_ROLLOUT]).keys()
        self.columns = tuple(sorted(self._required - known))
        self.optional_columns = tuple(sorted(self._accepted - self._required - known - self._options.keys()))
        """Given where the data has them; the function has defaults in their place."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return finished(self.stream(rollouts), len(rollouts))

    def stream(self, rollouts: Sequence[Rollout]) -> Iterator[Event]:
        """Rows as they are begun and as they are judged."""
        if not self.per_row:
            arguments = self._chosen(self._given(rollouts))
            yield from ((row, None) for row in range(len(rollouts)))
            yield from enumerate(batch_scores(self._calls.once(arguments), len(rollouts)))
            return
        yield from self._calls.stream([self._chosen(self._given([rollout])) for rollout in rollouts])

    def _given(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        """All that it may ask for, of one row or of a batch."""
        if self.per_row:
            return _row_arguments(rollouts)
        given = _batch_arguments(rollouts)
        if self.reads_turns:
            given |= _as_turns(rollouts)
        return given | _verl_batch(rollouts) if "solution_strs" in self._accepted else given

    def _chosen(self, arguments: dict[str, Any]) -> dict[str, Any]:
        missing = self._required - arguments.keys()
        if missing:
            name, known = min(missing), sorted(arguments)
            raise RewardError(
                f"has a parameter {name!r}, which is no column of the data.{nearest(name, known)} "
                f"Columns: {', '.join(known)}"
            )
        if not self._takes_all:
            arguments = {name: value for name, value in arguments.items() if name in self._accepted}
        return arguments | self._options


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


def _verl_batch(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Under the names that verl's `batch` reward manager has for lists."""
    return {f"{name}s": [_of_verl(r)[name] for r in rollouts] for name in _of_verl(_NO_ROLLOUT)}


def _as_turns(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """As TRL has them of conversations, of which a function may do with its copies what it likes; else texts."""
    prompts: list[Any] = [_turns(r.prompt.messages) or r.prompt.last_user_text for r in rollouts]
    said = [(r.prompt.messages is not None, r.completion.text) for r in rollouts]
    completions = [[{"role": "assistant", "content": text}] if is_chat else text for is_chat, text in said]
    return {"prompts": prompts, "completions": completions}


def _turns(messages: Sequence[Message] | None) -> list[dict[str, Any]]:
    return [dict(turn) for turn in messages or ()]


def _row_arguments(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Of the one rollout there is."""
    (rollout,) = rollouts
    prompt, columns = rollout.prompt, dict(rollout.prompt.metadata)
    return columns | {
        "prompt": prompt.last_user_text,
        "completion": rollout.completion.text,
        "reference": prompt.reference,
        **_of_verl(rollout),
        **_of_both(rollout),
    }


def _of_verl(rollout: Rollout) -> dict[str, Any]:
    columns = rollout.prompt.metadata
    return {
        "solution_str": rollout.completion.text,
        "data_source": columns.get("data_source"),
        "ground_truth": _ground_truth(columns, rollout.prompt.reference),
        "extra_info": columns.get("extra_info", dict(columns)),
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
