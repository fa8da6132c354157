"""A rule reward that costs next to nothing and differs between samples: the share of even words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def even_words(completions: Sequence[str], **_: Any) -> list[float]:
    """The share of words `w0, w2, ...` in each completion."""
    return [_share(completion.split()) for completion in completions]


def _share(words: list[str]) -> float:
    numbers = [int(word[1:]) for word in words if word[0] == "w"]
    return sum(number % 2 == 0 for number in numbers) / len(numbers) if numbers else 0.0
