"""Every row falls to one process; all get as many rows and about as many tokens."""

from __future__ import annotations

import pytest
import torch

from rlhf.engines.sharding import shard, shard_rows
from rlhf.types import PreferenceBatch
from tests.unit.engines.families import make_batch

LENGTHS = [3, 40, 7, 22, 31, 5, 5, 18, 2, 60, 11]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 16])
def test_every_row_falls_to_one_process(world_size):
    rows = shard_rows(make_batch(LENGTHS), world_size)
    assert sorted(torch.cat(rows).tolist()) == list(range(len(LENGTHS)))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_processes_get_about_as_many_tokens():
    batch = make_batch(torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(0)).tolist())
    loads = [int(batch.lengths_B[rows].sum()) for rows in shard_rows(batch, 4)]
    assert max(loads) < 1.02 * min(loads)


def test_missing_rows_are_blank():
    batch = make_batch(LENGTHS)
    piece = shard(batch, torch.tensor([3, 1]), 4)
    assert torch.equal(piece.tokens[:2], batch.tokens[[3, 1]])
    assert not piece.attention_mask[2:].any()
    assert not piece.response_mask[2:].any()
    assert shard(batch, torch.tensor([3, 1]), 2).tokens.shape[0] == 2


def test_missing_prompts_of_a_preference_are_absent():
    rows = make_batch(LENGTHS[:6])
    batch = PreferenceBatch(candidates=rows, present_BK=torch.ones(3, 2, dtype=torch.bool), margin_B=torch.ones(3))
    piece = shard(batch, torch.tensor([2]), 2)
    assert piece.present_BK.tolist() == [[True, True], [False, False]]
    assert torch.equal(piece.candidates.tokens[:2], rows.tokens[4:6])
    assert not piece.candidates.attention_mask[2:].any()
