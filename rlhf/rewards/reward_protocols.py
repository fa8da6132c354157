"""What is said over HTTP to a service that scores completions: the project's own protocol, and OpenRLHF's.

Each turns rollouts into rows, rows into the body of a request, and the answer into scores. docs/rewards.md is written
for those who write the service.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rlhf.types import Message, Prompt, Rollout, Score

VERSION = 1
_SHOWN = 200  # characters of a value that an error repeats

Row = dict[str, Any]


class RewardProtocol(Protocol):
    """What is sent and how the answer is read."""

    def row(self, rollout: Rollout) -> Row:
        """One rollout as it is sent; `ValueError` says why it cannot be."""
        ...

    def body(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The request about these rows."""
        ...

    def scores(self, answer: Any, num_rows: int) -> list[Score]:
        """One score a row; `ValueError` says what is wrong with the answer as a whole."""
        ...


class OwnProtocol:
    """Version 1: `{version, ids, prompts, completions, finish_reasons, references, metadata}` to
    `{scores, errors, parts}`, a list each with one entry a row; `errors` and `parts` may be left out.
    """

    def __init__(self, metadata: Sequence[str]) -> None:
        self._metadata = tuple(metadata)

    def row(self, rollout: Rollout) -> Row:
        prompt = rollout.prompt
        return {
            "ids": prompt.id,
            "prompts": prompt.text if prompt.messages is None else [dict(message) for message in prompt.messages],
            "completions": rollout.completion.text,
            "finish_reasons": rollout.completion.finish_reason,
            "references": prompt.reference,
            "metadata": {name: prompt.metadata.get(name) for name in self._metadata},
        }

    def body(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {"version": VERSION, **_by_column(rows)}

    def scores(self, answer: Any, num_rows: int) -> list[Score]:
        answered = _table(answer)
        if answered.get("version", VERSION) != VERSION:
            raise ValueError(f"speaks version {_brief(answered['version'])}, and this is version {VERSION}")
        values = _column(answered, "scores", num_rows)
        errors = _column(answered, "errors", num_rows) if answered.get("errors") is not None else [None] * num_rows
        parts = _column(answered, "parts", num_rows) if answered.get("parts") is not None else [None] * num_rows
        return [_score(*row) for row in zip(values, errors, parts, strict=True)]


class OpenRlhfProtocol:
    """OpenRLHF's `/get_reward`: `{query, prompts, labels}` to `{rewards}`, where a query is a prompt and its completion
    as the policy reads them. Lists of numbers in `extra_logs` are logged as parts; `scores` is not read.
    """

    def __init__(self, as_text: Callable[[Sequence[Message]], str] | None) -> None:
        self._as_text = as_text

    def row(self, rollout: Rollout) -> Row:
        prompt = self._prompt(rollout.prompt)
        label = rollout.prompt.reference or ""  # as OpenRLHF sends it where the data has none
        return {"query": prompt + rollout.completion.text, "prompts": prompt, "labels": label}

    def body(self, rows: Sequence[Row]) -> dict[str, Any]:
        return _by_column(rows)

    def scores(self, answer: Any, num_rows: int) -> list[Score]:
        answered = _table(answer)
        values = _column(answered, "rewards", num_rows)
        logs = answered.get("extra_logs")
        lists = (
            {name: log for name, log in logs.items() if _is_list_of(log, num_rows)} if isinstance(logs, dict) else {}
        )
        parts = [{name: log[row] for name, log in lists.items()} for row in range(num_rows)]
        return [
            _score(value, None, part) if value is not None else Score(error="the service gave null as its reward")
            for value, part in zip(values, parts, strict=True)
        ]

    def _prompt(self, prompt: Prompt) -> str:
        if prompt.messages is None:
            return prompt.text or ""
        if self._as_text is None:
            raise ValueError("its prompt is a conversation: name the tokenizer whose chat template writes it")
        return self._as_text(prompt.messages)


def _by_column(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _score(value: Any, error: Any, parts: Any) -> Score:
    """One row's answer; whatever it should not be is an error of that row."""
    if error is not None:
        return Score(error=f"the service says {_brief(error)}")
    if value is None:
        return Score()
    number = _finite(value)
    if number is None:
        return Score(error=f"the service gave a score of {_brief(value)}, which is not a finite number")
    if parts is None:
        return Score(value=number)
    if not isinstance(parts, dict) or any(_finite(part) is None for part in parts.values()):
        return Score(error=f"the service gave parts of {_brief(parts)}, which are not finite numbers by name")
    return Score(value=number, parts={name: float(part) for name, part in parts.items()})


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        return None
    return number if math.isfinite(number) else None


def _table(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError(f"answered with {_brief(answer)}, not with an object")
    return answer


def _column(answer: Mapping[str, Any], name: str, num_rows: int) -> list[Any]:
    column = answer.get(name)
    if name not in answer:
        raise ValueError(f"answered without {name!r}; it has {', '.join(sorted(answer)[:10]) or 'nothing'}")
    if not isinstance(column, list):
        raise ValueError(f"answered with {name!r} as {_brief(column)}, not as a list")
    if len(column) != num_rows:
        raise ValueError(f"answered with {len(column)} {name} for {num_rows} completions")
    return column


def _is_list_of(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_finite(item) is not None for item in value)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
