"""What a row of the data says is right: one answer or several, from `reference` or another column."""

from __future__ import annotations

from typing import Any

from rlhf.types import Prompt

Answer = str | int | float


class NoAnswer(Exception):
    """The row has no right answer to compare with; the message says what it has instead."""


def value_of(prompt: Prompt, column: str) -> Any:
    """The row's value in this column; `NoAnswer` where it has none."""
    value = prompt.reference if column == "reference" else prompt.metadata.get(column)
    if value is None:
        raise NoAnswer(f"row {prompt.id!r} has no {column!r}")
    return value


def right_answers(prompt: Prompt, column: str) -> tuple[Answer, ...]:
    """Every answer that is right: a text or a number counts as one, a list of them as several."""
    value = value_of(prompt, column)
    answers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not answers:
        raise NoAnswer(f"row {prompt.id!r} has an empty list in {column!r}")
    for answer in answers:
        _require_answer(answer, prompt, column)
    return answers


def _require_answer(answer: Any, prompt: Prompt, column: str) -> None:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise NoAnswer(
            f"row {prompt.id!r} has a {type(answer).__name__} in {column!r}; it takes text, a number or a list of them"
        )
    if isinstance(answer, str) and not answer.strip():
        raise NoAnswer(f"row {prompt.id!r} has an empty text in {column!r}")
