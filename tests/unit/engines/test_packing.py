"""Rows put end to end, prompts once: the same numbers and gradients as padded rows, with fewer tokens run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.layout import WORTH_SHARING, layout
from rlhf.engines.microbatches import micro_batches
from rlhf.engines.packed_attention import Group, attend
from rlhf.engines.packing import chosen_packing
from rlhf.engines.settings import TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.types import PreferenceBatch, TokenBatch
from tests.unit.engines.families import FAMILIES, make_batch
from tests.unit.engines.losses import Likelihood

PROMPT = WORTH_SHARING + 3
GROUPED = sorted(FAMILIES.keys() - {"gemma2"})
"""Families whose attention is the plain one; gemma2 caps its scores."""


def engine(path, role="policy", checkpointing=False, **config):
    model = ModelConfig(path=path, gradient_checkpointing=checkpointing)
    return TorchEngine(TorchConfig(**config), RoleSpec(role=role, model=model, optimizer=OptimizerConfig(lr=1e-2)))


def samples(seed=0):
    """Three samples of one long prompt, two of another, and two rows of their own, in no order."""
    batch = make_batch([PROMPT + 9, PROMPT + 1, 20, PROMPT + 9, PROMPT + 4, 7, PROMPT + 2], prompt=PROMPT, seed=seed)
    batch.tokens[[1, 4], :PROMPT] = batch.tokens[0, :PROMPT]
    batch.tokens[6, :PROMPT] = batch.tokens[3, :PROMPT]
    response = batch.response_mask.clone()
    response[2, 5:20], response[5, 2:7] = True, True
    return replace(batch, response_mask=response)


def naive(query, key, value, window=None):
    """Causal attention of one row, `[T, H, D]`, by definition."""
    out = torch.zeros_like(query)
    share = query.shape[1] // key.shape[1]
    for t in range(len(query)):
        first = 0 if window is None else max(0, t - window + 1)
        for h in range(query.shape[1]):
            scores = key[first : t + 1, h // share] @ query[t, h] / math.sqrt(query.shape[-1])
            out[t, h] = scores.softmax(0) @ value[first : t + 1, h // share]
    return out


@pytest.mark.parametrize("window", [None, 3, 6])
def test_attention_by_groups_is_attention_row_by_row(window):
    torch.manual_seed(0)
    groups = (Group(5, (3, 1, 4)), Group(0, (6, 2)), Group(0, (4, 4)), Group(4, (2, 2)), Group(0, (1,)))
    rows = [[*range(5), *own] for own in (range(5, 8), range(8, 9), range(9, 13))]
    rows += [[*range(13, 19)], [*range(19, 21)], [*range(21, 25)], [*range(25, 29)]]
    rows += [[*range(29, 33), 33, 34], [*range(29, 33), 35, 36], [37]]
    query, key, value = (torch.randn(38, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    out = attend(groups, query, key, value, window=window)
    for row in rows:
        torch.testing.assert_close(out[row], naive(query[row], key[row], value[row], window))


def test_gradients_of_attention_by_groups():
    torch.manual_seed(0)
    states = [torch.randn(9, heads, 4, dtype=torch.float64, requires_grad=True) for heads in (2, 1, 1)]
    groups = (Group(2, (2, 1)), Group(0, (3, 1)))
    assert torch.autograd.gradcheck(lambda *s: attend(groups, *s), states)


def test_a_prompt_stands_once_and_every_row_finds_its_tokens():
    batch = samples()
    rows = layout(batch, "groups")
    assert rows.tokens.shape == (1, int(batch.attention_mask.sum()) - 3 * PROMPT)
    found = rows.tokens[0][rows.places]
    assert torch.equal(found[batch.attention_mask], batch.tokens[batch.attention_mask])
    positions = rows.position_ids[0][rows.places]
    columns = torch.arange(batch.tokens.shape[1]).expand_as(positions)
    assert torch.equal(positions[batch.attention_mask], columns[batch.attention_mask])
    assert rows.groups is not None
    assert sum(group.size for group in rows.groups) == rows.tokens.shape[1]
    assert [group.prefix for group in rows.groups] == [PROMPT, PROMPT, 0]


def test_a_short_prompt_is_not_worth_a_call_of_its_own():
    batch = make_batch([9, 9, 9], prompt=4)
    batch.tokens[:, :4] = batch.tokens[0, :4]
    rows = layout(batch, "groups")
    assert rows.tokens.shape == (1, 27)
    assert [(group.prefix, group.lengths) for group in rows.groups or ()] == [(0, (9, 9, 9))]


CASES = [(family, "policy") for family in GROUPED] + [
    (family, role) for family in ("llama", "mistral", "gpt_neox") for role in ("value", "reward")
]


@pytest.mark.parametrize(("family", "role"), CASES)
def test_shared_prompts_change_no_output(model_path, family, role):
    batch = samples()
    packed, padded = (engine(model_path(family), role, packing=packing) for packing in ("auto", False))
    assert (packed.packing, padded.packing) == ("groups", "none")
    expected = vars(padded.forward(batch))
    for name, value in vars(packed.forward(batch)).items():
        torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_attention_that_is_not_the_plain_one_keeps_its_padding(model_path):
    assert engine(model_path("gemma2")).packing == "none"
    assert engine(model_path("gemma2"), packing=True).packing == "positions"


def test_a_gpu_pads_unless_told_otherwise(model_path):
    """Many small calls of attention are what a GPU is slow at."""
    network = AutoModelForCausalLM.from_pretrained(model_path("llama"))
    assert chosen_packing(network, "auto", "cuda") == "none"
    assert chosen_packing(network, True, "cuda") == "groups"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_shared_prompts_change_no_step(model_path, checkpointing, tokens):
    batch = samples()
    packed = engine(model_path("qwen3"), checkpointing=checkpointing, micro_batch_tokens=tokens)
    padded = engine(model_path("qwen3"), packing=False)
    for _ in range(2):
        assert packed.train_step(batch, Likelihood()) == pytest.approx(padded.train_step(batch, Likelihood()), rel=1e-4)
    for (name, ours), (_, theirs) in zip(packed.weights(), padded.weights(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_what_a_sample_of_a_prompt_says_does_not_reach_the_others(model_path):
    policy = engine(model_path("llama"))
    batch = samples()
    before = policy.forward(batch).logprobs
    batch.tokens[1, PROMPT:] = (batch.tokens[1, PROMPT:] + 7) % 50
    after = policy.forward(batch).logprobs
    others = [0, 2, 3, 4, 5, 6]
    torch.testing.assert_close(after[others], before[others], atol=1e-5, rtol=0)
    assert not torch.allclose(after[1], before[1])


def test_exported_weights_say_nothing_of_the_attention_they_were_trained_with(model_path, tmp_path):
    trained = engine(model_path("llama"))
    trained.export(tmp_path)
    assert "rlhf" not in (tmp_path / "config.json").read_text()
    assert engine(str(tmp_path), packing=False).forward(samples()).logprobs.isfinite().all()


# --- micro-batches ---------------------------------------------------------------------------------------------------


def tokens_of(batch, packing):
    return layout(batch.inputs, packing).tokens.numel()


@pytest.mark.parametrize("packing", ["groups", "none"])
@pytest.mark.parametrize("budget", [1, 30, 60, 100, 10_000])
def test_pieces_keep_to_the_budget_and_hold_every_row_once(packing, budget):
    batch = samples()
    pieces = micro_batches(batch, budget, packing)
    assert sorted(row for rows, _ in pieces for row in rows.tolist()) == list(range(len(batch)))
    for rows, piece in pieces:
        assert torch.equal(piece.tokens[piece.attention_mask], batch[rows].tokens[batch[rows].attention_mask])
        assert len(rows) == 1 or tokens_of(piece, packing) <= budget


def test_samples_of_a_prompt_fall_into_one_piece_where_they_fit():
    batch = samples()
    families = [{0, 1, 4}, {3, 6}]
    held = [set(rows.tolist()) for rows, _ in micro_batches(batch, PROMPT + 9 + 1 + 4, "groups")]
    assert all(any(family <= piece for piece in held) for family in families)
    assert len(held) == 3


def test_pieces_come_longest_first_without_columns_of_padding():
    batch = make_batch([3, 40, 7, 22, 31, 5, 5, 18, 2, 60, 11], width=80)
    widths = [piece.tokens.shape[1] for _, piece in micro_batches(batch, 64, "none")]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 60


def test_candidates_of_a_ranking_stay_together():
    rows = make_batch([10, 8, 6, 9, 4, 4])
    pairs = PreferenceBatch(candidates=rows, present_BK=torch.ones(3, 2, dtype=torch.bool), margin_B=torch.ones(3))
    assert [len(piece.inputs) for _, piece in micro_batches(pairs, 1, "groups")] == [2, 2, 2]
    assert [len(piece.inputs) for _, piece in micro_batches(pairs, 33, "groups")] == [4, 2]
    assert [len(piece.inputs) for _, piece in micro_batches(pairs, 40, "none")] == [4, 2]


def test_blank_rows_need_no_place():
    batch = make_batch([5, 0, 0])
    (piece,) = micro_batches(batch, 8, "groups")
    assert tokens_of(piece[1], "groups") == 5
    blank: TokenBatch = make_batch([0, 0], width=4)
    assert layout(blank, "groups").tokens.shape == (1, 1)


def test_the_kernel_and_the_group_agree_on_what_is_causal():
    torch.manual_seed(0)
    states = [torch.randn(7, 2, 8) for _ in range(3)]
    rows = [state.transpose(0, 1)[None] for state in states]
    expected = scaled_dot_product_attention(*rows, is_causal=True)[0].transpose(0, 1)
    torch.testing.assert_close(attend((Group(0, (7,)),), *states), expected)
    torch.testing.assert_close(attend((Group(4, (3,)),), *states), expected)
