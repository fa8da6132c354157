"""What PPO and its relatives share: which samples they train on, in which order, and when a step's epochs end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlhf.algorithms.grpo import GRPO, GRPOConfig
from rlhf.algorithms.ppo import PPO, PPOConfig
from rlhf.algorithms.reinforce_pp import ReinforcePP, ReinforcePPConfig
from rlhf.algorithms.remax import ReMax, ReMaxConfig
from rlhf.algorithms.rloo import RLOO, RLOOConfig
from rlhf.errors import RunError
from rlhf.types import Experience
from tests.unit.algorithms.scripted_run import Model, ScriptedRun, scored_batch

CRITIC_FREE = [(GRPO, GRPOConfig), (RLOO, RLOOConfig), (ReinforcePP, ReinforcePPConfig), (ReMax, ReMaxConfig)]
EACH = pytest.mark.parametrize(("method", "config"), CRITIC_FREE, ids=[case[0].__name__ for case in CRITIC_FREE])


def made(method: Any, config: Any, **options: Any) -> Any:
    """With two epochs, so that what the models say is asked before the updates."""
    return method(config(**{"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "epochs": 2, **options}))


def assessed(algorithm: Any, truncated: tuple[int, ...] = ()) -> tuple[Experience, dict[str, float]]:
    """Two prompts of two samples; the models say something absurd where no token was sampled."""
    batch = scored_batch([1.0, 4.0, 2.0, 0.0], [0, 0, 1, 1], [1, 3, 2, 2], truncated)
    policy, reference = (torch.where(batch.response_mask, value, 9.0) for value in (-1.0, -1.5))
    return algorithm.assess(ScriptedRun(policy=Model(policy), reference=Model(reference)), batch)  # type: ignore[no-any-return]


@EACH
def test_cut_completions_are_trained_on_unless_they_are_masked(method: Any, config: Any) -> None:
    assert len(assessed(made(method, config), truncated=(1, 2))[0]) == 4
    assert len(assessed(made(method, config, mask_truncated=True), truncated=(1, 2))[0]) == 2


@EACH
def test_what_is_carried_into_the_updates_is_zero_where_no_token_was_sampled(method: Any, config: Any) -> None:
    experience, _ = assessed(made(method, config, kl_penalty="k3_in_loss"))
    for values in (experience.old_logprobs, experience.ref_logprobs, experience.advantages):
        assert values is not None
        assert (values[~experience.response_mask] == 0).all()
        assert (values[experience.response_mask] != 0).any()


@EACH
def test_without_a_price_on_kl_scores_alone_are_credited(method: Any, config: Any) -> None:
    priced, _ = assessed(made(method, config, kl_coef=0.1, kl_penalty="k3_in_loss"))
    free, figures = assessed(made(method, config, kl_coef=0.0, kl_penalty="k1_in_reward"))
    assert torch.equal(free.advantages, priced.advantages)
    assert free.ref_logprobs is None
    assert not any("kl" in name for name in figures)


def test_options_reach_the_loss_of_every_method() -> None:
    options = {"max_drift": 0.5, "dual_clip": 3.0, "clip_low": 0.1, "clip_high": 0.4, "entropy_coef": 0.2}
    for method, config in [*CRITIC_FREE, (PPO, PPOConfig)]:
        loss = made(method, config, **options).policy_loss()
        assert {name: getattr(loss, name) for name in options} == options


@pytest.mark.parametrize(("limit", "stops"), [(0.1, True), (0.31, False), (None, False)])
@pytest.mark.parametrize(("method", "config"), [(GRPO, GRPOConfig), (RLOO, RLOOConfig)])
def test_samples_of_another_policy_are_not_trained_on(method: Any, config: Any, limit: Any, stops: bool) -> None:
    """The rollout engine told -1.3 where the train engine finds -1, as a stale head would."""

    class Apart(ScriptedRun):
        def collate(self, rollouts: Any) -> Any:
            batch = super().collate(rollouts)
            sampled = torch.where(batch.response_mask, -1.3, 0.0)
            return replace(batch, sampled_logprobs=sampled)

    run = Apart(policy=Model(torch.zeros(0)), reference=Model(torch.zeros(0)))
    algorithm = made(method, config, max_logprob_gap=limit, prompts_per_step=2, samples_per_prompt=4)
    if stops:
        message = (
            r"differ by 0\.3 nats a token .* more than algorithm\.max_logprob_gap \(0\.1\); no weights trained on them"
        )
        with pytest.raises(RunError, match=message):
            algorithm.run(run)
        assert (run.policy.trained, run.published) == ([], 0)
    else:
        algorithm.run(run)
        figures = run.finished[0][1]
        names = ("rollout/logprob_gap", "rollout/logprob_gap_max", "rollout/logprob_error")
        assert [figures[name] for name in names] == pytest.approx([0.3, 0.3, math.exp(0.3)])
        assert run.policy.trained


# --- updates ---------------------------------------------------------------------------------------------------------


def trained_rows(step: int, **options: Any) -> list[list[int]]:
    """The samples of each minibatch, told by their scores, in the order in which they were trained on."""
    method = made(GRPO, GRPOConfig, kl_coef=0.0, divide_by_std=False, minibatch_size=4, epochs=2, **options)
    batch = scored_batch([float(n) for n in range(10)], [0] * 10)
    run = ScriptedRun(policy=Model(torch.where(batch.response_mask, -1.0, 0.0)))
    experience, _ = method.assess(run, batch)
    method.improve(run, experience, step)
    return [[round(a + 4.5) for a in rows.advantages[:, 2].tolist()] for rows, _ in run.policy.trained]


def test_each_epoch_is_a_pass_over_all_samples_shuffled_anew() -> None:
    trained = trained_rows(1)
    assert [len(rows) for rows in trained] == [4, 4, 2] * 2
    first, second = ([row for rows in epoch for row in rows] for epoch in (trained[:3], trained[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first != sorted(first)


def test_the_order_follows_from_the_step_alone() -> None:
    """So that a run that is resumed goes on as it would have."""
    found = trained_rows(7)
    torch.rand(3)
    assert trained_rows(7) == found
    assert trained_rows(8) != found


@pytest.mark.parametrize(("target", "updates"), [(0.03, 4), (0.029, 3), (None, 9)])
def test_epochs_end_once_the_target_is_exceeded(target: float | None, updates: int) -> None:
    """The n-th update reports 0.01 n: at the target it goes on, beyond it no more."""
    run = ScriptedRun(policy=Model(torch.zeros(0)), reference=Model(torch.zeros(0)))
    made(GRPO, GRPOConfig, target_kl=target, epochs=9).run(run)
    assert len(run.policy.trained) == updates


class ValueModel(Model):
    """Expects nothing, whatever it is asked, and reports a figure of its own."""

    def forward(self, batch: Any) -> Any:
        self.says = torch.zeros(batch.tokens.shape)
        self.final_values_B = torch.zeros(len(batch))
        return super().forward(batch)

    def train_step(self, batch: Any, loss_fn: Any) -> dict[str, float]:
        super().train_step(batch, loss_fn)
        return {"value/loss": 1.0}


def test_while_the_value_model_warms_up_no_target_ends_its_epochs() -> None:
    run = ScriptedRun(
        policy=Model(torch.zeros(0)), reference=Model(torch.zeros(0)), value=ValueModel(torch.zeros(0)), num_steps=2
    )
    made(PPO, PPOConfig, target_kl=0.001, epochs=5, value_warmup_steps=1).run(run)
    assert len(run.value.trained) == 5 + 1
    assert len(run.policy.trained) == 1
    assert [figures["policy/updates"] for _, figures, _ in run.finished] == [0, 1]
    assert [len(rollouts) for _, _, rollouts in run.finished] == [4, 4]
    assert all(figures["value/loss"] == 1.0 for _, figures, _ in run.finished)
