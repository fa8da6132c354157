"""Repetitions within a file, found by sorting what rows were reduced to: 56 bytes a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.data.curation.near_duplicates import exact_duplicates
from rlhf.data.curation.row_checks import example

_COMMON_SHARE = 0.01
_FEWEST_COMMON = 10

LINE, HIGH, LOW, PROMPT, JUDGED, VERDICT, ANSWER = range(7)
"""Columns of the keys; 0 where a row has no such thing."""


def repetitions(keys: NDArray[np.uint64], most: int) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Kind, count and first examples of what repeats among the rows of `keys` `[N, 7]`."""
    if not len(keys):
        return
    lines = keys[:, LINE].astype(np.int64)
    originals = exact_duplicates(keys[:, [HIGH, LOW]])
    copies = np.flatnonzero(originals >= 0)
    if len(copies):
        told = [example(int(lines[row]), f"the same as line {lines[originals[row]]}") for row in copies[:most]]
        yield "duplicate", len(copies), told
    asked = _earlier(keys[:, PROMPT])
    again = np.flatnonzero((asked >= 0) & (originals < 0))
    if len(again):
        told = [example(int(lines[row]), f"asks what line {lines[asked[row]]} asks") for row in again[:most]]
        yield "same_prompt", len(again), told
    judged = _earlier(keys[:, JUDGED])
    against = np.flatnonzero((judged >= 0) & (keys[:, VERDICT] != keys[judged, VERDICT]))
    if len(against):
        told = [
            example(int(lines[row]), f"judged the other way in line {lines[judged[row]]}") for row in against[:most]
        ]
        yield "contradiction", len(against), told
    yield from _common_answers(keys, lines, most)


def _earlier(column: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first of the same key, -1 where it is the first or has none."""
    found = exact_duplicates(np.stack([column, np.zeros_like(column)], axis=1))
    return np.where(column == 0, -1, found)


def _common_answers(
    keys: NDArray[np.uint64], lines: NDArray[np.int64], most: int
) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    answers = keys[:, ANSWER]
    found, first, counts = np.unique(answers, return_index=True, return_counts=True)
    often = (counts >= max(_FEWEST_COMMON, _COMMON_SHARE * len(keys))) & (found != 0)
    if often.any():
        order = np.argsort(-counts[often], kind="stable")[:most]
        told = [
            example(int(lines[row]), f"{count} rows answer so")
            for row, count in zip(first[often][order], counts[often][order], strict=True)
        ]
        yield "common_answer", int(counts[often].sum()), told
