"""The work of each measure, counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.throughput import flops
from benchmarks.throughput.workload import SMALL, ModelSize

TINY = ModelSize(hidden=4, layers=2, heads=3, kv_heads=1, head=4, mlp=8, vocabulary=10)
# A layer: queries 4 x 12, keys and values 4 x 4 each, output 12 x 4, MLP 3 x 4 x 8.
BLOCK = 2 * (48 + 16 + 16 + 48 + 96)
HEAD = 40


def attention(context: int) -> int:
    return 4 * 2 * 12 * context


def test_parameters_that_multiply() -> None:
    assert (TINY.block_parameters, TINY.head_parameters, TINY.parameters) == (BLOCK, HEAD, BLOCK + HEAD)


def test_the_small_model_is_that_of_the_reference() -> None:
    assert SMALL.block_parameters == pytest.approx(12.6e6, rel=0.005)


def test_a_row_is_scored_token_by_token() -> None:
    by_token = sum(2 * (BLOCK + HEAD) + attention(context) for context in (1, 2, 3))
    assert flops.score_row(TINY, 3) == by_token


def test_without_the_head() -> None:
    assert flops.score_row(TINY, 3) - flops.score_row(TINY, 3, head=False) == 3 * 2 * HEAD


def test_training_costs_three_times() -> None:
    assert flops.train_rows(TINY, (3, 5)) == 3 * flops.score_rows(TINY, (3, 5))


def test_a_prompt_is_read_once_for_all_its_samples() -> None:
    read = flops.score_row(TINY, 2)  # its last token gives the first new one
    second_and_third = sum(2 * (BLOCK + HEAD) + attention(context) for context in (3, 4))
    assert flops.generate(TINY, [2], num_samples=5, new_tokens=3) == read + 5 * second_and_third
