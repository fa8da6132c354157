"""PPO-Lagrangian step by step, with models that say what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.policy_objective import TokenWeights
from rlhf.algorithms.ppo import PPO, PPOConfig, ValueLoss
from rlhf.algorithms.ppo_lagrangian import CostValueLoss, PPOLagrangian, PPOLagrangianConfig
from rlhf.errors import ConfigError
from rlhf.functional.advantages import gae, token_rewards
from rlhf.functional.lagrangian import whiten_lagrangian
from rlhf.types import ConstrainedExperience, Rollout, ScoredBatch, ValueOutput
from rlhf.validation import validated
from tests.unit.algorithms.scripted_run import Model, ScriptedRun, scored_batch

SCORES, COSTS = [1.0, 3.0, 2.0], [0.0, 4.0, 2.0]


def lagrangian(**options: Any) -> PPOLagrangian:
    given = {"steps": 1, "cost_limit": 1.0, "multiplier": 0.5, "multiplier_lr": 0.1, "cost_decay": 0.0} | options
    return PPOLagrangian(PPOLagrangianConfig(**given))


def batch(truncated: tuple[int, ...] = ()) -> ScoredBatch:
    return replace(scored_batch(SCORES, [0, 1, 2], truncated=truncated), costs_B=torch.tensor(COSTS))


def run_of(given: ScoredBatch, kl: float = 0.5) -> ScriptedRun:
    torch.manual_seed(1)
    mask = given.response_mask
    values, cost_values = (torch.where(mask, torch.randn(mask.shape), 0.0) for _ in range(2))
    run = ScriptedRun(
        policy=Model(torch.where(mask, -1.0, 0.0)),
        reference=Model(torch.where(mask, -1.0 - kl, 0.0)),
        value=Model(values, final_values_B=torch.full((3,), 7.0)),
    )
    run.cost_value = Model(cost_values, final_values_B=torch.full((3,), 9.0))  # type: ignore[attr-defined]
    return run


def expected(given: ScoredBatch, run: Any, scores: Tensor, kl_coef: float) -> tuple[Tensor, Tensor]:
    mask = given.response_mask
    kl = torch.where(mask, 0.5, 0.0)
    values, ends = (
        (run.value.says, torch.where(given.truncated_B, 7.0, 0.0)) if kl_coef > 0 else (run.cost_value.says, None)
    )
    return gae(token_rewards(scores, kl, mask, kl_coef), values, mask, 1.0, 0.95, final_values_B=ends)


def test_reward_and_cost_are_credited_apart_and_combined_at_the_price() -> None:
    given = batch()
    run, method = run_of(given), lagrangian(kl_coef=0.1)
    experience, figures = method.assess(run, given)
    reward, returns = expected(given, run, torch.tensor(SCORES), 0.1)
    cost, cost_returns = expected(given, run, torch.tensor(COSTS), -0.1)
    # The mean cost is 2, one above the limit: lambda goes from 0.5 to 0.6 before it is used.
    assert figures["cost/multiplier"] == pytest.approx(0.6)
    assert figures["cost/average"] == pytest.approx(2.0)
    torch.testing.assert_close(experience.advantages, whiten_lagrangian(reward, cost, given.response_mask, 0.6))
    torch.testing.assert_close(experience.returns, returns)
    torch.testing.assert_close(experience.cost_returns, cost_returns)
    torch.testing.assert_close(experience.old_values, run.value.says)
    torch.testing.assert_close(experience.cost_values, run.cost_value.says)
    assert figures["policy/kl_to_reference"] == pytest.approx(1.5)
    assert {"value/explained_variance", "cost_value/explained_variance"} <= figures.keys()


def test_without_a_price_it_is_ppo() -> None:
    given = batch()
    method = lagrangian(multiplier=0.0, cost_limit=100.0)
    ours, _ = method.assess(run_of(given), given)
    theirs, _ = PPO(PPOConfig(steps=1)).assess(run_of(given), given)
    torch.testing.assert_close(ours.advantages, theirs.advantages)
    torch.testing.assert_close(ours.returns, theirs.returns)


def test_the_kl_weighs_the_same_whatever_the_price() -> None:
    """Charged to the reward and credited to the cost: (-beta KL - lambda beta KL) / (1 + lambda) = -beta KL."""
    mask = batch().response_mask
    zero, kl = torch.zeros(3), torch.where(mask, 0.5, 0.0)
    for price in (0.0, 1.0, 9.0):
        method = lagrangian(kl_coef=0.1, lam=1.0)
        nothing = torch.zeros_like(kl)
        reward = method.credit(zero, method.kl_in_reward * kl, mask, nothing, None).advantages
        cost = method.credit(zero, -method.kl_in_reward * kl, mask, nothing, None).advantages
        combined = (reward - price * cost) / (1 + price)
        torch.testing.assert_close(combined[0], torch.tensor([0, 0, -0.15, -0.10, -0.05]))
    assert lagrangian(kl_penalty="k3_in_loss").kl_in_reward == 0.0


def test_a_cut_completion_costs_what_it_says_though_its_score_is_not_due() -> None:
    given = batch(truncated=(1,))
    run, method = run_of(given), lagrangian(kl_coef=0.1)
    experience, figures = method.assess(run, given)
    _, returns = expected(given, run, torch.tensor([1.0, 0.0, 2.0]), 0.1)
    _, cost_returns = expected(given, run, torch.tensor(COSTS), -0.1)
    torch.testing.assert_close(experience.returns, returns)
    torch.testing.assert_close(experience.cost_returns, cost_returns)
    assert figures["cost/average"] == pytest.approx(2.0)


# --- the price -------------------------------------------------------------------------------------------------------


def prices(method: PPOLagrangian, *mean_costs: float) -> list[float]:
    return [round(method._price(cost), 6) for cost in mean_costs]


def test_lambda_follows_the_average_and_stays_within_bounds() -> None:
    assert prices(lagrangian(), 3.0, 1.0, 0.0) == [0.7, 0.7, 0.6]
    # An average of 3, 2 and 1: half of the last, half of what was.
    assert prices(lagrangian(cost_decay=0.5), 3.0, 1.0, 0.0) == [0.7, 0.8, 0.8]
    assert prices(lagrangian(multiplier_max=0.6), 3.0, 3.0, -20.0, 3.0) == [0.6, 0.6, 0.0, 0.2]


def test_the_gain_is_of_the_step_and_not_kept() -> None:
    method = lagrangian(multiplier_gain=0.25)
    assert prices(method, 3.0, 1.0, -1.0) == [0.7 + 0.5, 0.7, 0.5 - 0.5]
    assert method.multiplier == pytest.approx(0.5)


def test_price_and_average_survive_a_restart() -> None:
    method = lagrangian(cost_decay=0.5)
    prices(method, 3.0, 4.0)
    again = lagrangian(cost_decay=0.5)
    again.restore(method.state())
    assert prices(again, 2.0) == prices(method, 2.0)
    fresh = lagrangian(cost_decay=0.5)
    fresh.restore(lagrangian(cost_decay=0.5).state())  # saved before the first step
    assert prices(fresh, 3.0) == [0.7]


def test_a_cost_of_nothing_is_an_average_of_zero_and_before_the_first_step_there_is_none() -> None:
    method, given = lagrangian(), replace(batch(), costs_B=torch.zeros(3))
    assert method.state() == {"kl_coef": 0.05, "multiplier": 0.5}
    _, figures = method.assess(run_of(given), given)
    assert figures["cost/average"] == 0.0
    assert method.state() == {"kl_coef": 0.05, "multiplier": pytest.approx(0.4), "average_cost": 0.0}


# --- updates ---------------------------------------------------------------------------------------------------------


def test_three_models_are_trained_each_on_its_own() -> None:
    given = batch()
    run, method = run_of(given), lagrangian(value_warmup_steps=1)
    experience, _ = method.assess(run, given)
    method.update(run, experience, 1)
    assert [len(m.trained) for m in (run.value, run.cost_value, run.policy)] == [1, 1, 0]  # type: ignore[attr-defined]
    method.update(run, experience, 2)
    assert [len(m.trained) for m in (run.value, run.cost_value, run.policy)] == [2, 2, 1]  # type: ignore[attr-defined]
    assert type(run.value.trained[0][1]) is ValueLoss
    assert type(run.cost_value.trained[0][1]) is CostValueLoss  # type: ignore[attr-defined]


def test_the_cost_value_loss_is_the_value_loss_of_costs() -> None:
    given = batch()
    experience, _ = lagrangian().assess(run_of(given), given)
    assert isinstance(experience, ConstrainedExperience)
    output = ValueOutput(values=torch.randn(3, 5), final_values_B=torch.zeros(3))
    swapped = replace(experience, old_values=experience.cost_values, returns=experience.cost_returns)
    ours, theirs = CostValueLoss(0.2)(output, experience), ValueLoss(0.2)(output, swapped)
    assert ours.total == theirs.total != ValueLoss(0.2)(output, experience).total
    assert list(ours.sums) == ["cost_value/clip_fraction"]


def test_it_starts_a_value_model_of_costs_whose_loss_is_clipped_and_weighed_alike() -> None:
    method = lagrangian(value_clip=0.3, aggregation="sequence_mean")
    assert method.needs == {"policy", "reference", "value", "cost_value", "rollout"}
    assert method.cost_value_loss == CostValueLoss(0.3, TokenWeights("sequence_mean", 1))
    assert lagrangian(value_clip=None).cost_value_loss.clip is None


class Priced(ScriptedRun):
    """Every completion has a cost, and half a nat of KL at each of its tokens."""

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        batch = super().collate(rollouts)
        self.reference.says = torch.where(batch.response_mask, -1.5, 0.0)
        return replace(batch, costs_B=torch.arange(float(len(rollouts))))


def test_held_out_figures_are_reward_cost_and_kl() -> None:
    models = {"policy": Model(torch.zeros(0)), "reference": Model(torch.zeros(0))}
    run: Any = Priced(rewards=lambda prompt, sample: 0.5, **models)
    method = lagrangian()
    assert method.measure(run) == {"reward": [0.5] * 3, "cost": [0.0, 1.0, 2.0], "kl_to_reference": [1.5] * 3}
    assert run.asked == [(["h0", "h1", "h2"], 1, False)]
    run.held_out_prompts = list
    assert method.measure(run) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cost_limit": None}, "cost_limit"),
        ({"multiplier": -1.0}, "multiplier: .* greater than or equal to 0"),
        ({"multiplier": 200.0}, "multiplier 200 is above multiplier_max 100"),
        ({"cost_decay": 1.0}, "cost_decay"),
        ({"multiplier_lr": 0.0}, "multiplier_lr"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validated(PPOLagrangianConfig, {"steps": 1, "cost_limit": 1.0} | options, "algorithm")
    with pytest.raises(ConfigError, match="cost_limit: required"):
        validated(PPOLagrangianConfig, {"steps": 1}, "algorithm")
