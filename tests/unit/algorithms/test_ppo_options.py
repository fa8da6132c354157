"""PPO's options by hand: where the KL is charged, whitened rewards, how the value loss is weighed, warming up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf.algorithms.policy_objective import TokenWeights
from rlhf.algorithms.ppo import PPO, PPOConfig, ValueLoss
from rlhf.types import ValuedExperience, ValueOutput
from tests.unit.algorithms.scripted_run import Model, ScriptedRun, scored_batch


def ppo(**options: Any) -> PPO:
    """One whose returns are plain sums of rewards to come."""
    return PPO(PPOConfig(**{"steps": 1, "kl_coef": 0.1, "lam": 1.0, **options}))


def assessed(
    method: PPO, scores: list[float], lengths: list[int], truncated: tuple[int, ...] = (), final_value: float = 0.0
) -> tuple[ValuedExperience, Any]:
    """Half a nat of KL at each token, and a value model that expects nothing up to the end."""
    batch = scored_batch(scores, list(range(len(scores))), lengths, truncated)
    policy, reference = (torch.where(batch.response_mask, value, 9.0) for value in (-1.0, -1.5))
    value = Model(torch.zeros_like(policy), final_values_B=torch.full((len(scores),), final_value))
    run = ScriptedRun(policy=Model(policy), reference=Model(reference), value=value)
    return method.assess(run, batch)  # type: ignore[arg-type]


def returns_of(experience: ValuedExperience) -> list[float]:
    found: list[float] = experience.returns[experience.response_mask].tolist()
    return found


def test_the_kl_is_in_the_reward_or_in_the_loss() -> None:
    experience, _ = assessed(ppo(), [2.0, 1.0], [2, 1])
    assert returns_of(experience) == pytest.approx([1.9, 1.95, 0.95])
    assert experience.ref_logprobs is None
    for place, estimator in (("k2_in_loss", "k2"), ("k3_in_loss", "k3")):
        method = ppo(kl_penalty=place)
        experience, figures = assessed(method, [2.0, 1.0], [2, 1])
        assert returns_of(experience) == pytest.approx([2.0, 2.0, 1.0])
        assert experience.ref_logprobs is not None
        assert (method.policy_loss().kl_coef, method.policy_loss().kl_estimator) == (0.1, estimator)
        assert figures["policy/kl_to_reference"] == pytest.approx(0.75)
    assert ppo().policy_loss().kl_coef == 0


def test_whitened_rewards_keep_their_mean() -> None:
    """Rewards of -0.05, 1.95 and 0.95 have a standard deviation of 1 already; 0, 4 and 2 have one of 2."""
    experience, _ = assessed(ppo(whiten_rewards=True), [2.0, 1.0], [2, 1])
    assert returns_of(experience) == pytest.approx([-0.05 + 1.95, 1.95, 0.95], rel=1e-5)
    experience, _ = assessed(ppo(whiten_rewards=True, kl_coef=0.0), [4.0, 2.0], [2, 1])
    assert returns_of(experience) == pytest.approx([1.0 + 3.0, 3.0, 2.0], rel=1e-5)


def test_the_value_loss_is_weighed_as_the_policys() -> None:
    experience, _ = assessed(ppo(), [2.0, 1.0], [3, 1])
    off = torch.where(experience.response_mask, experience.returns + 1.0, 0.0)
    for mode, total, count in (("token_mean", 2.0, 4), ("sequence_mean", 1.0, 2), ("sequence_sum", 0.5, 2)):
        method = ppo(aggregation=mode, loss_length=4 if mode == "sequence_sum" else None, value_clip=None)
        found = method.value_loss(ValueOutput(values=off, final_values_B=torch.zeros(2)), experience)
        assert found.total.item() == pytest.approx(total)
        assert method.value_loss.count(experience) == count
    assert ValueLoss(None).weights == TokenWeights("token_mean", 1)


def test_a_value_that_left_the_clip_has_no_gradient_and_is_counted() -> None:
    """Of four values three moved from 0 to 0.1 and one to 1, towards returns of 2."""
    experience, _ = assessed(ppo(kl_coef=0.0, gamma=1.0), [2.0, 2.0], [3, 1])
    values = torch.zeros(2, 5)
    values[0, 2:5], values[1, 2] = 0.1, 1.0
    values.requires_grad_()
    found = ppo(value_clip=0.3).value_loss(ValueOutput(values=values, final_values_B=torch.zeros(2)), experience)
    assert found.total.item() == pytest.approx(0.5 * (3 * 1.9**2 + 1.7**2))
    assert [part.item() for part in found.sums["value/clip_fraction"]] == [1, 4]
    (gradient,) = torch.autograd.grad(found.total, values)
    assert gradient[experience.response_mask].tolist() == pytest.approx([-1.9, -1.9, -1.9, 0.0])
    assert ppo().value_loss.clip == 0.2


def test_a_cut_completion_is_worth_what_may_follow() -> None:
    """The first was cut and its end has a value of 7; the second ended with a score of 2."""
    for options in ({"lam": 1.0}, {"lam": 0.5, "value_lam": 1.0}):
        method = ppo(kl_coef=0.0, **options)
        experience, figures = assessed(method, [1.0, 2.0], [2, 1], truncated=(0,), final_value=7.0)
        assert returns_of(experience) == pytest.approx([7.0, 7.0, 2.0])
        assert figures["value/explained_variance"] == 0  # a model that expects nothing


def test_the_policy_waits_while_the_value_model_warms_up() -> None:
    run = ScriptedRun(
        rewards=lambda prompt, sample: 1.0,
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
        value=Model(torch.zeros(4, 5), final_values_B=torch.zeros(4)),
        num_steps=2,
    )
    ppo(value_warmup_steps=1, prompts_per_step=4, minibatch_size=4, epochs=1).run(run)  # type: ignore[arg-type]
    assert len(run.value.trained) == 2
    assert len(run.policy.trained) == 1
    assert [figures["policy/updates"] for _, figures, _ in run.finished][1] == 1


def test_it_always_starts_the_reference() -> None:
    assert ppo(kl_coef=0.0).needs == ppo().needs == {"policy", "reference", "value", "rollout"}


def test_the_value_model_may_learn_other_returns_than_the_policy() -> None:
    """A value of 1 everywhere and a score of 3: the error of 2 at the last token reaches back by lam."""

    def credit(**options: float) -> tuple[list[float], list[float]]:
        mask = torch.ones(1, 3, dtype=torch.bool)
        method = ppo(kl_coef=0.0, **options)
        found = method.credit(torch.tensor([3.0]), torch.zeros(1, 3), mask, torch.ones(1, 3), None)
        return found.advantages[0].tolist(), found.returns[0].tolist()

    assert credit(lam=0.5) == ([0.5, 1.0, 2.0], [1.5, 2.0, 3.0])
    assert credit(lam=0.5, value_lam=1.0) == ([0.5, 1.0, 2.0], [3.0, 3.0, 3.0])
    assert credit(lam=0.5, value_lam=0.0) == ([0.5, 1.0, 2.0], [1.0, 1.0, 3.0])
    # 1 - 1/(2/3 * 3) = 0.5, whatever lam is.
    advantages, returns = credit(lam=1.0, length_adaptive_lam=2 / 3, value_lam=1.0)
    assert advantages == pytest.approx([0.5, 1.0, 2.0])
    assert returns == [3.0, 3.0, 3.0]
