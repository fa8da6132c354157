"""How far two engines are apart: by hand, by a loop, and blind to what is outside the mask."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.functional.engine_gap import engine_gap


def test_by_hand() -> None:
    trained, sampled = torch.tensor([[-1.0, -2.0, 7.0]]), torch.tensor([[-1.5, -1.8, float("-inf")]])
    found = engine_gap(trained, sampled, torch.tensor([[True, True, False]]))
    assert float(found.mean) == pytest.approx(0.35)
    assert float(found.largest) == pytest.approx(0.5)
    assert float(found.token_error) == pytest.approx((math.exp(0.5) + math.exp(0.2)) / 2)


def test_by_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    trained, sampled = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, 7, generator=generator) < 0.6
    mask[2] = False
    gaps = [abs(float(trained[b, t] - sampled[b, t])) for b in range(5) for t in range(7) if mask[b, t]]
    found = engine_gap(trained, sampled, mask)
    assert float(found.mean) == pytest.approx(sum(gaps) / len(gaps))
    assert float(found.largest) == pytest.approx(max(gaps))
    assert float(found.token_error) == pytest.approx(sum(map(math.exp, gaps)) / len(gaps))
    assert engine_gap(sampled, trained, mask) == pytest.approx(found), "neither engine is the right one"


def test_engines_that_agree_and_empty_masks() -> None:
    same = torch.randn(3, 4)
    assert [float(x) for x in engine_gap(same, same, torch.ones(3, 4, dtype=torch.bool))] == [0, 0, 1]
    other = torch.randn(3, 4)
    empty = engine_gap(same, other, torch.zeros(3, 4, dtype=torch.bool))
    assert (float(empty.mean), float(empty.largest)) == (0, 0)
