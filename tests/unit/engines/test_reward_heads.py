"""Reward models with several heads: read, trained head by head, written and loaded again."""

from __future__ import annotations

import torch
from transformers import AutoModelForSequenceClassification

from rlhf.algorithms.reward_model import RankingLoss, own_scores
from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.microbatches import restore
from rlhf.engines.settings import TorchConfig
from rlhf.engines.sharding import shard
from rlhf.engines.torch_engine import TorchEngine
from rlhf.types import HeadedRewardOutput, PreferenceBatch, RewardOutput
from tests.unit.engines.families import make_batch

HEADS = ("helpful", "honest", "harmless")
LENGTHS = [9, 3, 12, 4, 7, 5]


def engine(path, role="reward", heads=HEADS, trained=True, **config) -> TorchEngine:
    optimizer = OptimizerConfig(lr=1e-2) if trained else None
    spec = RoleSpec(role=role, model=ModelConfig(path=str(path)), heads=heads, optimizer=optimizer)
    return TorchEngine(TorchConfig(**config), spec)


def rankings(heads: list[int]) -> PreferenceBatch:
    return PreferenceBatch(
        candidates=make_batch(LENGTHS),
        present_BK=torch.ones(3, 2, dtype=torch.bool),
        margin_B=torch.zeros(3),
        head_B=torch.tensor(heads),
    )


def test_each_head_is_read_as_transformers_reads_it_and_is_found_again_by_name(model_path, tmp_path) -> None:
    made = engine(model_path("llama"), micro_batch_tokens=40)
    batch = make_batch(LENGTHS)
    output = made.forward(batch)
    assert isinstance(output, HeadedRewardOutput)
    made.export(tmp_path)
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert network.config.id2label == dict(enumerate(HEADS))
    for row, length in enumerate(LENGTHS):
        with torch.no_grad():
            logits = network(batch.tokens[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(output.heads_BH[row], logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.scores_B, output.heads_BH.sum(1))
    again = engine(tmp_path, heads=(), trained=False).forward(batch)
    torch.testing.assert_close(again.heads_BH, output.heads_BH)
    assert len({tuple(column.tolist()) for column in output.heads_BH.T}) == len(HEADS)


def test_neither_packing_nor_micro_batches_nor_blank_rows_matter(model_path) -> None:
    batch = make_batch(LENGTHS)
    expected = engine(model_path("llama"), micro_batch_tokens=10000).forward(batch)
    for options in ({"micro_batch_tokens": 20}, {"micro_batch_tokens": 20, "packing": True}):
        other = engine(model_path("llama"), **options).forward(shard(batch, torch.arange(6), 8))
        torch.testing.assert_close(other.heads_BH[:6], expected.heads_BH, atol=1e-5, rtol=1e-5)
        assert not other.heads_BH[6:].any()


def test_pieces_as_wide_as_there_are_heads_are_put_back_whole() -> None:
    batch = make_batch([3, 3])
    pieces = [
        (torch.tensor([n]), HeadedRewardOutput(scores_B=torch.ones(1), heads_BH=torch.full((1, 5), n))) for n in (1, 0)
    ]
    whole = restore(pieces, batch)
    assert isinstance(whole, HeadedRewardOutput)
    assert whole.heads_BH.tolist() == [[0.0] * 5, [1.0] * 5]


def test_a_ranking_trains_its_own_head_only(model_path) -> None:
    made = engine(model_path("llama"))
    before = made.model.head.weight.detach().clone()
    metrics = made.train_step(rankings([2, 2, 2]), RankingLoss())
    after = made.model.head.weight.detach()
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2], after[2])
    assert metrics["reward/loss"] > 0


def test_scores_are_those_of_the_head_each_ranking_names() -> None:
    heads_BH = torch.arange(18.0).view(6, 3)
    output = HeadedRewardOutput(scores_B=heads_BH.sum(1), heads_BH=heads_BH)
    assert own_scores(output, rankings([0, 2, 1])).tolist() == [[0, 3], [8, 11], [13, 16]]
    loss = RankingLoss()(output, rankings([0, 2, 1])).total
    plain = RankingLoss()(RewardOutput(scores_B=torch.tensor([0.0, 3, 8, 11, 13, 16])), rankings([0, 0, 0])).total
    assert loss == plain


def test_other_numbers_of_heads_begin_afresh(model_path, tmp_path) -> None:
    """A value model from a reward model of three heads has one, and predicts nothing yet."""
    engine(model_path("llama"), micro_batch_tokens=40).export(tmp_path)
    batch = make_batch(LENGTHS)
    assert not engine(tmp_path, role="value", heads=()).forward(batch).values.any()
    assert type(engine(tmp_path, heads=()).forward(batch)) is RewardOutput
    assert engine(tmp_path, heads=("a", "b")).forward(batch).heads_BH.shape == (6, 2)
    # A language model that only judges has one fresh head, as before.
    assert type(engine(model_path("llama"), heads=(), trained=False).forward(batch)) is RewardOutput
