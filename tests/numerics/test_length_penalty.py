"""The price of length: by hand, by the paper's three cases, by relation."""

from __future__ import annotations

import pytest
import torch

from rlhf.functional.length_penalty import overlong_penalty


def test_by_hand() -> None:
    lengths_B = torch.tensor([0, 12, 13, 14, 16, 20])
    assert overlong_penalty(lengths_B, 16, 4).tolist() == [0, 0, -0.25, -0.5, -1, -1]


@pytest.mark.parametrize(("max_length", "buffer"), [(20, 5), (20, 20), (7, 1)])
def test_by_definition(max_length: int, buffer: int) -> None:
    """DAPO, equation 13."""
    found = overlong_penalty(torch.arange(30), max_length, buffer)
    for y in range(30):
        if y <= max_length - buffer:
            expected = 0.0
        elif y <= max_length:
            expected = ((max_length - buffer) - y) / buffer
        else:
            expected = -1.0
        assert found[y].item() == pytest.approx(expected)


def test_longer_is_never_cheaper() -> None:
    found = overlong_penalty(torch.arange(40), 32, 8)
    assert (found.diff() <= 0).all()
    assert found.dtype == torch.float32
