"""Rewards in order of importance: a later one decides only between those that the earlier ones find equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def lexicographic(values: Sequence[Sequence[float]], prompts: Sequence[str]) -> list[float]:
    """Of each row, the share of its competitors that it beats, equals counting half: 0 for the worst, 1 for the best.

    `values` are the rows' values, the most important first. Rows compete with those of their own prompt; where every
    prompt has but one row, with all. Alone, a row is worth 0.5.
    """
    grouped = any(count > 1 for count in Counter(prompts).values())
    groups: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt if grouped else "", []).append(row)
    ranks = [0.5] * len(values)
    for rows in groups.values():
        for row in rows if len(rows) > 1 else ():
            others = [tuple(values[other]) for other in rows if other != row]
            mine = tuple(values[row])
            ranks[row] = sum((mine > other) + 0.5 * (mine == other) for other in others) / len(others)
    return ranks
