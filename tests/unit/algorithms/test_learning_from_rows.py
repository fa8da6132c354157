"""What every method that learns from rows does alike: ask for its kind, train its role with its loss, end the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rlhf.algorithms.cost_model import CostModel, CostModelConfig
from rlhf.algorithms.cpo import CPO, CPOConfig
from rlhf.algorithms.denoising import MaskedLM, MaskedLMConfig, SpanCorruption, SpanCorruptionConfig
from rlhf.algorithms.distill import Distill, DistillConfig
from rlhf.algorithms.dpo import DPO, DPOConfig
from rlhf.algorithms.kto import KTO, KTOConfig
from rlhf.algorithms.orpo import ORPO, ORPOConfig
from rlhf.algorithms.process_reward_model import ProcessRewardModel, ProcessRewardModelConfig
from rlhf.algorithms.reward_model import RewardModel, RewardModelConfig
from rlhf.algorithms.simpo import SimPO, SimPOConfig
from rlhf.algorithms.supervised import SFT, NextTokenLoss, Pretrain, SFTConfig, SupervisedConfig
from rlhf.types import LabelledBatch, PolicyOutput, StepBatch, TokenBatch
from tests.unit.algorithms.preference_rows import rankings
from tests.unit.algorithms.row_run import RowRun, Rows, Trainee

METHODS = [
    (Pretrain, SupervisedConfig, "texts", {"policy"}),
    (SFT, SFTConfig, "demonstrations", {"policy"}),
    (MaskedLM, MaskedLMConfig, "texts", {"policy"}),
    (SpanCorruption, SpanCorruptionConfig, "texts", {"policy"}),
    (Distill, DistillConfig, "demonstrations", {"policy", "teacher"}),
    (DPO, DPOConfig, "rankings", {"policy", "reference"}),
    (CPO, CPOConfig, "rankings", {"policy"}),
    (ORPO, ORPOConfig, "rankings", {"policy"}),
    (SimPO, SimPOConfig, "rankings", {"policy"}),
    (KTO, KTOConfig, "labelled", {"policy", "reference"}),
    (RewardModel, RewardModelConfig, "rankings", {"reward"}),
    (CostModel, CostModelConfig, "labelled", {"reward"}),
    (ProcessRewardModel, ProcessRewardModelConfig, "stepwise", {"reward"}),
]
EACH = pytest.mark.parametrize(
    ("method", "config", "kind", "needs"), METHODS, ids=[case[0].__name__ for case in METHODS]
)


def rows_of(kind: str) -> Rows:
    pairs, _ = rankings(num_prompts=3)
    rows = replace(pairs.candidates[::4], tokens=pairs.candidates.tokens[::4] + 10)
    if kind == "labelled":
        return LabelledBatch(**dict(rows.tensors()), label_B=torch.tensor([True, False, True]))
    if kind == "stepwise":
        return StepBatch(**dict(rows.tensors()), labels=rows.response_mask)
    return pairs if kind == "rankings" else rows


def models() -> dict[str, Trainee]:
    """A policy and a reference whose log-probs are their tokens' numbers."""

    def answer(rows: TokenBatch) -> PolicyOutput:
        return PolicyOutput(logprobs=-0.1 * rows.tokens, entropy=rows.tokens)

    return {"policy": Trainee(answer), "reference": Trainee(answer)}


@EACH
def test_a_step_trains_the_role_on_the_rows_of_its_kind(method: Any, config: Any, kind: str, needs: set[str]) -> None:
    algorithm = method(config(batch_size=5))
    assert algorithm.needs == needs
    assert algorithm.consumes == kind
    batches = [rows_of(kind), rows_of(kind)]
    run = RowRun(batches, **models())
    algorithm.run(run)
    assert run.asked == [("stepwise", 5, "\n") if kind == "stepwise" else (kind, 5)]
    trainee = run.reward if "reward" in needs else run.policy
    assert len(trainee.trained) == 2
    for given, (rows, loss_fn) in zip(batches, trainee.trained, strict=True):
        assert len(rows) == len(given)
        assert loss_fn is algorithm.loss
        assert loss_fn.count(rows) > 0
    assert run.finished == [(1, {"policy/loss": 1.0}), (2, {"policy/loss": 2.0})]


@EACH
def test_it_trains_for_its_passes_over_the_data_or_its_steps(
    method: Any, config: Any, kind: str, needs: set[str]
) -> None:
    assert method(config(batch_size=5, epochs=2)).num_steps(11) == 5
    assert method(config(batch_size=5, steps=3)).num_steps(11) == 3


@EACH
def test_without_held_out_rows_of_its_kind_it_has_no_figures(
    method: Any, config: Any, kind: str, needs: set[str]
) -> None:
    run = RowRun()
    assert method(config()).measure(run) == {}
    assert run.asked == [("held out", "stepwise", "\n") if kind == "stepwise" else ("held out", kind)]


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (1, 1), (32, 1), (33, 2)])
def test_a_started_batch_is_a_step_and_there_is_always_one(rows: int, expected: int) -> None:
    assert SupervisedConfig().num_steps(rows) == expected


def test_an_epoch_may_be_a_part_of_one() -> None:
    assert SupervisedConfig(epochs=0.5, batch_size=4).num_steps(10) == 2


@pytest.mark.parametrize(("method", "config"), [(CPO, CPOConfig), (ORPO, ORPOConfig)])
def test_the_imitated_tokens_of_a_step_weigh_as_its_prompts(method: Any, config: Any) -> None:
    """Whatever the lengths: so that the sum over the prompts is a mean over the best completions' tokens."""
    batch, _ = rankings()
    run = RowRun([batch])
    method(config()).run(run)
    weights = run.policy.trained[0][0].candidates.loss_weights
    assert weights.sum().item() == pytest.approx(5)
    assert len(weights[weights > 0].unique()) == 1


# --- next tokens -----------------------------------------------------------------------------------------------------


def weighed_rows() -> TokenBatch:
    """Two trained tokens in the first row, of weights 1 and 3; one of the second, beside one of weight 0."""
    mask = torch.tensor([[False, True, True, False], [False, True, True, False]])
    weights = torch.tensor([[9.0, 1.0, 3.0, 9.0], [9.0, 0.0, 0.5, 9.0]])
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    return TokenBatch(tokens=tokens, attention_mask=mask | True, response_mask=mask, loss_weights=weights)


@pytest.mark.parametrize(("method", "config"), [(Pretrain, SupervisedConfig), (SFT, SFTConfig)])
def test_the_held_out_loss_is_the_weighted_mean_of_each_row(method: Any, config: Any) -> None:
    run = RowRun(held_out=weighed_rows(), **models())
    assert method(config()).measure(run)["loss"] == pytest.approx([(0.2 + 3 * 0.3) / 4, 0.7])
    run.held_out = replace(weighed_rows(), loss_weights=None)
    assert method(config()).measure(run)["loss"] == pytest.approx([0.25, 0.65])


@pytest.mark.parametrize(("method", "config"), [(Pretrain, SupervisedConfig), (SFT, SFTConfig)])
def test_what_is_not_trained_cannot_leak_into_the_held_out_loss(method: Any, config: Any) -> None:
    rows, clean = weighed_rows(), RowRun(held_out=weighed_rows(), **models())
    weighs = rows.response_mask & (rows.loss_weights > 0)  # type: ignore[operator]
    logprobs = torch.where(weighs, -0.1 * rows.tokens, torch.nan)
    dirty = RowRun(held_out=rows, policy=Trainee(lambda given: PolicyOutput(logprobs=logprobs, entropy=logprobs)))
    assert method(config()).measure(dirty) == method(config()).measure(clean)


def test_noise_on_embeddings_is_an_option_of_sft_alone() -> None:
    assert SFT(SFTConfig(neftune_alpha=5.0)).loss == NextTokenLoss(embedding_noise=5.0)
    assert SFT(SFTConfig()).loss == Pretrain(SupervisedConfig()).loss == NextTokenLoss(embedding_noise=0.0)
