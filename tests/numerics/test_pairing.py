"""The best and the worst of each prompt's samples."""

from __future__ import annotations

import math

import torch

from rlhf.functional.pairing import TIE, best_and_worst


def test_by_hand() -> None:
    scores = torch.tensor([1.0, 5.0, 3.0, 2.0, 9.0, 0.0])
    assert best_and_worst(scores, torch.tensor([0, 1, 0, 1, 0, 1])).tolist() == [[4, 0], [1, 5]]


def test_by_definition() -> None:
    scores, group = torch.randn(40), torch.randint(0, 12, (40,))
    expected = []
    for g in range(12):
        rows = [i for i in range(40) if group[i] == g]
        if len(rows) > 1:
            expected.append([max(rows, key=scores.__getitem__), min(rows, key=scores.__getitem__)])
    assert best_and_worst(scores, group).tolist() == expected


def test_nothing_is_preferred_among_equals_or_alone() -> None:
    scores = torch.tensor([1.0, 1.0, 7.0, 2.0, 2.0 + 1e-7, 3.0, 3.0 - 1e-4])
    group = torch.tensor([0, 0, 1, 2, 2, 3, 3])
    assert best_and_worst(scores, group).tolist() == [[5, 6]]
    assert best_and_worst(torch.ones(4), torch.tensor([0, 0, 1, 1])).shape == (0, 2)
    at_the_limit = torch.tensor([TIE, 0.0, 2 * TIE, 0.0], dtype=torch.float64)
    assert best_and_worst(at_the_limit, torch.tensor([0, 0, 1, 1])).tolist() == [[2, 3]]


def test_of_equals_the_earlier_row_counts() -> None:
    scores = torch.tensor([2.0, 2.0, 1.0, 1.0])
    assert best_and_worst(scores, torch.zeros(4, dtype=torch.int64)).tolist() == [[0, 2]]


def test_a_shift_or_scale_of_the_scores_or_other_names_of_groups_change_no_pair() -> None:
    scores, group = torch.randn(20), torch.randint(0, 5, (20,))
    pairs = best_and_worst(scores, group)
    assert torch.equal(best_and_worst(3 * scores - math.pi, group), pairs)
    assert torch.equal(best_and_worst(scores, 7 * group + 100), pairs)
    assert torch.equal(best_and_worst(-scores, group), pairs.flip(1))
