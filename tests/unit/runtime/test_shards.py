"""A batch in shards, one a rank, and outputs back in order, whatever the sizes."""

from __future__ import annotations

import pytest
import torch

from rlhf.runtime.shards import gathered, shards, with_blank_rows
from rlhf.types import Experience, PreferenceBatch, RewardOutput, TokenBatch, ValueOutput


def token_batch(rows: int, width: int = 4) -> TokenBatch:
    return TokenBatch(
        tokens=torch.arange(rows * width).view(rows, width) + 1,
        attention_mask=torch.ones(rows, width, dtype=torch.bool),
        response_mask=torch.ones(rows, width, dtype=torch.bool),
        loss_weights=torch.full((rows, width), 0.5),
    )


def preference_batch(prompts: int, candidates: int = 3) -> PreferenceBatch:
    return PreferenceBatch(
        candidates=token_batch(prompts * candidates),
        present_BK=torch.ones(prompts, candidates, dtype=torch.bool),
        margin_B=torch.arange(prompts).float(),
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_outputs_of_the_shards_come_back_in_the_order_of_the_batch(rows: int, num_ranks: int) -> None:
    batch = token_batch(rows)
    pieces = shards(batch, num_ranks)
    assert len(pieces) == num_ranks
    assert len({len(piece) for piece in pieces}) == 1, "all ranks take the same number of micro-batches"
    outputs = [ValueOutput(values=p.inputs.tokens.float(), final_values_B=p.inputs.tokens[:, -1]) for p in pieces]
    whole = gathered(outputs, rows)
    assert torch.equal(whole.values, batch.tokens.float())
    assert torch.equal(whole.final_values_B, batch.tokens[:, -1])


@pytest.mark.parametrize("prompts", [1, 2, 3, 5])
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_rankings_are_dealt_out_by_prompt_and_never_torn(prompts: int, num_ranks: int) -> None:
    batch = preference_batch(prompts)
    pieces = shards(batch, num_ranks)
    assert all(isinstance(piece, PreferenceBatch) for piece in pieces)
    seen = {}
    for piece in pieces:
        assert isinstance(piece, PreferenceBatch)
        for row in range(len(piece)):
            if piece.present_BK[row].any():
                seen[int(piece.margin_B[row])] = piece.candidates.tokens[row * 3 : row * 3 + 3]
    assert sorted(seen) == list(range(prompts))
    for prompt, tokens in seen.items():
        assert torch.equal(tokens, batch.candidates.tokens[prompt * 3 : prompt * 3 + 3])


def test_blank_rows_have_one_token_to_run_and_nothing_to_learn() -> None:
    grown = with_blank_rows(token_batch(2), 2)
    assert isinstance(grown, TokenBatch)
    assert grown.attention_mask[2:].tolist() == [[True, False, False, False]] * 2
    assert not grown.response_mask[2:].any()
    assert grown.loss_weights is not None
    assert not grown.loss_weights[2:].any()
    assert torch.equal(grown.tokens[:2], token_batch(2).tokens)


def test_blank_rankings_have_no_candidate() -> None:
    grown = with_blank_rows(preference_batch(2), 1)
    assert isinstance(grown, PreferenceBatch)
    assert grown.present_BK.tolist() == [[True] * 3] * 2 + [[False] * 3]
    assert not grown.candidates.response_mask[6:].any()


def test_every_tensor_of_an_experience_grows() -> None:
    plain = token_batch(3)
    extra = {name: torch.rand(3, 4) for name in ("old_logprobs", "ref_logprobs", "advantages", "old_values", "returns")}
    batch = Experience(
        tokens=plain.tokens, attention_mask=plain.attention_mask, response_mask=plain.response_mask, **extra
    )
    pieces = shards(batch, 2)
    for piece in pieces:
        assert isinstance(piece, Experience)
        assert {name: len(tensor) for name, tensor in piece.tensors()} == dict.fromkeys(
            ("tokens", "attention_mask", "response_mask", *extra), 2
        )
    assert torch.equal(pieces[1].inputs.tokens[0], plain.tokens[1])


def test_one_rank_gets_the_batch_itself() -> None:
    batch, output = token_batch(3), RewardOutput(scores_B=torch.ones(3))
    assert shards(batch, 1) == [batch]
    assert gathered([output], 3) is output
