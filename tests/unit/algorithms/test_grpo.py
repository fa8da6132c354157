"""GRPO: its advantages by hand, groups left out and sampled anew, steps passed over; what its options refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlhf.algorithms.critic_free import draw_groups, penalised, with_varied_rewards
from rlhf.algorithms.grpo import GRPO, GRPOConfig
from rlhf.errors import ConfigError
from rlhf.types import PolicyOutput
from rlhf.validation import validated
from tests.unit.algorithms.scripted_run import Model, ScriptedRun, scored_batch


def grpo(**options: Any) -> GRPO:
    """With two epochs, so that what the models say is asked before the updates."""
    return GRPO(GRPOConfig(**{"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 3, "epochs": 2, **options}))


def run_with(policy: torch.Tensor, reference: torch.Tensor | None = None, **options: Any) -> ScriptedRun:
    return ScriptedRun(policy=Model(policy), reference=None if reference is None else Model(reference), **options)


# --- advantages ------------------------------------------------------------------------------------------------------

SCORES, GROUPS = [0.0, 1.0, 2.0, 5.0, 9.0], [0, 0, 0, 1, 1]


def said(batch: Any, value: float) -> torch.Tensor:
    return torch.where(batch.response_mask, value, 7.0)


@pytest.mark.parametrize(
    ("divide_by_std", "expected"),
    [(True, [-1.0, 0.0, 1.0, -(0.5**0.5), 0.5**0.5]), (False, [-1.0, 0.0, 1.0, -2.0, 2.0])],
)
def test_advantages_by_hand(divide_by_std: bool, expected: list[float]) -> None:
    batch = scored_batch(SCORES, GROUPS, [1, 2, 3, 2, 1])
    run = run_with(said(batch, -1.0), said(batch, -1.0))
    experience, figures = grpo(divide_by_std=divide_by_std).assess(run, batch)
    mask = batch.response_mask
    for row, value in enumerate(expected):
        assert experience.advantages[row, mask[row]].tolist() == pytest.approx([value] * int(mask[row].sum()), abs=1e-5)
    assert (experience.advantages[~mask] == 0).all()
    assert (experience.old_logprobs == torch.where(mask, -1.0, 0.0)).all()
    assert figures["policy/kl_to_reference"] == 0
    assert figures["rollout/logprob_gap"] == 0


def test_the_kl_is_in_the_loss_or_comes_off_the_score() -> None:
    """Of rows of 1 and 3 tokens, at 0.5 nats a token and a price of 0.1, the longer loses 0.1 more."""
    batch = scored_batch([1.0, 1.0], [0, 0], [1, 3])
    run = run_with(said(batch, -1.0), said(batch, -1.5))
    for place, gap in (("k1_in_reward", 0.1), ("k3_in_loss", 0.0), ("k2_in_loss", 0.0)):
        method = grpo(kl_coef=0.1, kl_penalty=place, divide_by_std=False)
        experience, figures = method.assess(run, batch)
        shorter, longer = experience.advantages[:, 2].tolist()
        assert shorter - longer == pytest.approx(gap, abs=1e-6)
        assert figures["policy/kl_to_reference"] == pytest.approx(1.0)
        in_loss = place != "k1_in_reward"
        assert method.policy_loss().kl_coef == (0.1 if in_loss else 0.0)
        assert (experience.ref_logprobs is not None) == in_loss
    assert grpo(kl_penalty="k2_in_loss").policy_loss().kl_estimator == "k2"
    assert grpo(kl_penalty="k3_in_loss").policy_loss().kl_estimator == "k3"


def test_without_a_price_there_is_no_reference() -> None:
    method = grpo(kl_coef=0.0)
    batch = scored_batch(SCORES, GROUPS)
    assert method.needs == {"policy", "rollout"}
    assert grpo(kl_coef=0.1).needs == {"policy", "reference", "rollout"}
    _, figures = method.assess(run_with(said(batch, -1.0)), batch)
    assert not figures.keys() & {"policy/kl_to_reference", "policy/kl_coef"}
    assert set(method.measure(run_with(said(batch, -1.0)))) == {"reward"}


def test_options_reach_the_loss() -> None:
    loss = grpo(
        ratio="sequence_mean", surrogate="cispo", clip_low=0.1, clip_high=0.3, dual_clip=3.0, entropy_coef=0.01
    ).policy_loss()
    assert (loss.ratio, loss.surrogate, loss.clip_low, loss.clip_high) == ("sequence_mean", "cispo", 0.1, 0.3)
    assert (loss.dual_clip, loss.entropy_coef) == (3.0, 0.01)
    assert loss.weights.aggregation == "sequence_mean"
    assert grpo(aggregation="sequence_sum", loss_length=9).policy_loss().weights.loss_length == 9


def test_cut_completions_count_in_the_mean_and_not_in_the_update() -> None:
    batch = scored_batch(SCORES, GROUPS, truncated=[2, 3])
    run = run_with(said(batch, -1.0), said(batch, -1.0))
    method = grpo(mask_truncated=True, divide_by_std=False, aggregation="prompt_mean")
    experience, _ = method.assess(run, batch)
    assert experience.advantages[:, 2].tolist() == [-1.0, 0.0, 2.0]
    # Two rows of prompt 0 are left and one of prompt 1: its tokens weigh twice as much.
    assert experience.loss_weights is not None
    assert experience.loss_weights[:, 2].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 3])
    assert method.policy_loss().count(experience) == pytest.approx(2)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_correction_is_taken_once_and_told(level: str) -> None:
    sampled = torch.zeros(2, 5)
    sampled[:, 2:] = torch.tensor([[-1.0, -1.5, -1.0], [-1.0, -1.0, -0.9]])
    batch = scored_batch([0.0, 1.0], [0, 0], sampled=sampled)
    run = run_with(said(batch, -1.0), said(batch, -1.0))
    experience, figures = grpo(correction=level, correction_cap=1.2).assess(run, batch)
    raw = (
        [1, math.exp(0.5), 1, 1, 1, math.exp(-0.1)] if level == "token" else [math.exp(0.5)] * 3 + [math.exp(-0.1)] * 3
    )
    assert experience.correction is not None
    assert experience.correction[:, 2:].flatten().tolist() == pytest.approx([min(w, 1.2) for w in raw])
    assert figures["rollout/correction"] == pytest.approx(sum(raw) / 6)
    assert figures["rollout/correction_capped"] == pytest.approx((1 if level == "token" else 3) / 6)
    assert figures["rollout/effective_samples"] == pytest.approx(sum(raw) ** 2 / (6 * sum(w * w for w in raw)))
    assert figures["rollout/correction_chi2"] == pytest.approx(sum(w * w for w in raw) / 6 - 1)
    assert figures["rollout/logprob_gap"] == pytest.approx(0.6 / 6)
    dropping = grpo(correction=level, correction_cap=1.2, correction_beyond="drop").assess(run, batch)[0]
    assert dropping.correction is not None
    assert dropping.correction[:, 2:].flatten().tolist() == pytest.approx([w if w <= 1.2 else 0 for w in raw])
    assert grpo().assess(run, batch)[0].correction is None


def test_samples_of_an_older_policy_are_weighed_and_prove_nothing_of_the_engines() -> None:
    batch = scored_batch([0.0, 1.0], [0, 0])
    mask = batch.response_mask
    batch = replace(batch, sampled_logprobs=torch.where(mask, -1.5, 0.0))
    run = run_with(said(batch, -1.0), said(batch, -1.0))
    for staleness, weight in (([0, 0], None), ([0, 1], math.exp(0.5))):
        stale = replace(batch, staleness_B=torch.tensor(staleness))
        experience, figures = grpo(epochs=2).assess(run, stale)
        if weight is None:
            assert experience.correction is None
            assert figures["rollout/logprob_gap"] == pytest.approx(0.5)
        else:
            assert experience.correction is not None
            assert experience.correction[mask].tolist() == pytest.approx([weight] * 6)
            assert "rollout/logprob_gap" not in figures
        assert grpo(epochs=2, correction="off").assess(run, stale)[0].correction is None


def test_the_first_update_has_a_ratio_of_one_and_the_gradient_of_the_policy_gradient() -> None:
    batch = scored_batch(SCORES, GROUPS)
    run = run_with(said(batch, -1.3), said(batch, -1.3))
    method = grpo(aggregation="token_mean")
    experience, _ = method.assess(run, batch)
    x = said(batch, -1.3).requires_grad_()
    found = method.policy_loss()(PolicyOutput(logprobs=x, entropy=torch.zeros_like(x)), experience)
    (gradient,) = torch.autograd.grad(found.total, x)
    torch.testing.assert_close(gradient, -experience.advantages)
    assert found.sums["policy/approx_kl"][0] == 0


# --- groups ----------------------------------------------------------------------------------------------------------


def rewards(**of_prompt: list[float | None]) -> Any:
    return lambda prompt, sample: of_prompt[prompt][sample]


def config(**options: Any) -> GRPOConfig:
    return grpo(**options).config


def test_groups_that_are_all_alike_are_left_out_and_counted() -> None:
    run = ScriptedRun(rewards=rewards(p0=[1, 1, 1], p1=[0, 1, 1], p2=[0.3, 0.1 + 0.2, 0.3]))
    groups = draw_groups(run, run.more_prompts(3), config())
    assert {rollout.prompt.id for rollout in groups.kept} == {"p1"}
    assert len(groups.kept) == 3
    assert len(groups.rollouts) == 9
    assert groups.figures == {"rollout/groups": 3, "rollout/groups_skipped": 2}


def test_rewards_closer_than_single_precision_are_told_apart() -> None:
    run = ScriptedRun(rewards=rewards(p0=[1e8, 1e8 + 1, 1e8]))
    assert len(draw_groups(run, run.more_prompts(1), config()).kept) == 3


def test_what_is_left_of_a_group_whose_rewards_failed() -> None:
    run = ScriptedRun(rewards=rewards(p0=[1, None, None], p1=[None, None, None], p2=[None, 0, 1]))
    groups = draw_groups(run, run.more_prompts(3), config())
    assert [rollout.reward for rollout in groups.kept] == [0, 1]
    assert groups.figures == {"rollout/groups": 3, "rollout/groups_skipped": 2}


def test_dynamic_sampling_asks_for_what_is_missing_up_to_the_limit() -> None:
    same, varied = [1, 1, 1], [0, 1, 0]
    run = ScriptedRun(rewards=rewards(p0=same, p1=varied, p2=same, p3=same, p4=varied, p5=varied))
    groups = draw_groups(run, run.more_prompts(3), config(), 5)
    assert [asked for asked, _, _ in run.asked] == [["p0", "p1", "p2"], ["p3", "p4"], ["p5"]]
    assert {rollout.prompt.id for rollout in groups.kept} == {"p1", "p4", "p5"}
    assert groups.figures == {"rollout/groups": 6, "rollout/groups_skipped": 3}
    run = ScriptedRun(rewards=lambda prompt, sample: 0.0)
    groups = draw_groups(run, run.more_prompts(2), config(), 3)
    assert groups.kept == []
    assert len(run.asked) == 3
    assert groups.figures == {"rollout/groups": 6, "rollout/groups_skipped": 6}


def test_a_prompt_that_comes_twice_is_one_group() -> None:
    run = ScriptedRun(rewards=rewards(p0=[0, 1, 1]))
    prompts = run.more_prompts(1) * 2
    groups = draw_groups(run, prompts, config(), 4)
    assert len(run.asked) == 1
    assert groups.figures == {"rollout/groups": 1, "rollout/groups_skipped": 0}


def test_penalties_come_off_the_reward_after_the_groups_are_chosen() -> None:
    """p0 is all alike before its penalties and p1 after them; only the first is left out."""
    run = ScriptedRun(
        rewards=rewards(p0=[1, 1, 1], p1=[1, 0, 0]),
        lengths=lambda prompt, sample: 8 if sample == 0 else 4,
        max_tokens=8,
    )
    options = {"missing_eos_penalty": 0.5, "overlong": {"max_length": 8, "buffer": 4, "penalty": 0.5}}
    groups = draw_groups(run, run.more_prompts(2), config(**options))
    assert [rollout.reward for rollout in groups.kept] == [0.0, 0.0, 0.0]
    assert [rollout.reward for rollout in groups.rollouts] == [1, 1, 1, 1, 0, 0]


def test_penalties_by_hand() -> None:
    run = ScriptedRun(rewards=lambda prompt, sample: 2.0, lengths=lambda prompt, sample: 4 + sample, max_tokens=8)
    rollouts = run.score(run.sample(run.more_prompts(1), 5))
    found = penalised(rollouts, config(overlong={"max_length": 8, "buffer": 4, "penalty": 2.0}))
    assert [rollout.reward for rollout in found] == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    found = penalised(rollouts, config(missing_eos_penalty=0.25))
    assert [rollout.reward for rollout in found] == pytest.approx([2.0, 2.0, 2.0, 2.0, 1.75])
    assert penalised(rollouts, config()) == rollouts
    assert penalised([], config(missing_eos_penalty=1.0)) == []
    assert with_varied_rewards([]) == []


# --- the loop --------------------------------------------------------------------------------------------------------


def scripted(**options: Any) -> ScriptedRun:
    return ScriptedRun(policy=Model(torch.zeros(0)), reference=Model(torch.zeros(0)), **options)


def test_a_step_trains_on_what_varied_and_tells_of_all() -> None:
    run = scripted(rewards=lambda prompt, sample: float(sample * (prompt != "p1")), num_steps=2)
    method = grpo(minibatch_size=2, epochs=2, prompts_per_step=2)
    method.run(run)
    assert len(run.policy.trained) == 2 * 2 + 2 * 3  # a step of 3 rows (2 minibatches) and one of 6, each twice
    assert run.published == 2
    assert [step for step, _, _ in run.finished] == [1, 2]
    assert [len(rollouts) for _, _, rollouts in run.finished] == [6, 6]
    assert [figures["policy/updates"] for _, figures, _ in run.finished] == [4, 6]
    assert [figures["rollout/groups_skipped"] for _, figures, _ in run.finished] == [1, 0]
    rows = [row for batch, _ in run.policy.trained[:2] for row in batch.advantages[:, 2].tolist()]
    assert sorted(rows) == pytest.approx([-1, 0, 1], abs=1e-5)


def test_a_step_may_sample_in_rounds() -> None:
    run = scripted(rewards=lambda prompt, sample: float(sample * (prompt != "p1")))
    grpo(max_sampling_rounds=2).run(run)
    assert [asked for asked, _, _ in run.asked] == [["p0", "p1"], ["p2"]]
    assert len(run.policy.trained[0][0]) == 6


def test_epochs_end_early_at_the_target() -> None:
    run = scripted()
    grpo(minibatch_size=2, epochs=9, target_kl=0.025).run(run)
    assert len(run.policy.trained) == 3  # the third reports 0.03
    assert run.finished[0][1]["policy/updates"] == 3


def test_a_step_in_which_all_rewards_are_equal_is_passed_over() -> None:
    run = scripted(rewards=lambda prompt, sample: 0.7, num_steps=3)
    grpo().run(run)
    assert run.policy.trained == []
    assert run.published == 0
    assert all(figures["policy/updates"] == 0 for _, figures, _ in run.finished)
    assert [len(rollouts) for _, _, rollouts in run.finished] == [6, 6, 6]
    assert len(run.notes) == 1
    assert "rewards within every group are alike" in run.notes[0]


def test_a_step_in_which_all_completions_were_cut_is_passed_over() -> None:
    run = scripted(lengths=lambda prompt, sample: 8, num_steps=2)
    grpo(mask_truncated=True).run(run)
    assert run.policy.trained == []
    assert all(figures["policy/updates"] == 0 for _, figures, _ in run.finished)
    assert len(run.notes) == 1
    assert "cut at rollout.max_tokens" in run.notes[0]


def test_an_adaptive_coefficient_moves_after_the_step_that_measured_it() -> None:
    run = scripted(num_steps=2)
    method = grpo(kl_coef=0.1, kl_target=6.0, kl_horizon=60.0)
    method.run(run)
    # No KL at all: 20 % below, times 6 rows over a horizon of 60.
    assert [loss.kl_coef for _, loss in run.policy.trained] == pytest.approx([0.1, 0.1, 0.098, 0.098])
    assert [figures["policy/kl_coef"] for _, figures, _ in run.finished] == pytest.approx([0.1, 0.098])
    assert method.state() == {"kl_coef": pytest.approx(0.1 * 0.98**2)}
    again = grpo(kl_coef=0.1)
    again.restore(method.state())
    assert again.kl_coef == method.kl_coef


def test_an_update_that_was_skipped_moves_no_coefficient() -> None:
    """A loss that is not finite is not stepped on, and says nothing of the KL."""

    class Skipping(Model):
        def train_step(self, batch: Any, loss_fn: Any) -> Any:
            super().train_step(batch, loss_fn)
            return {"policy/skipped": 1.0}

    run = scripted(num_steps=2)
    run.policy = Skipping(torch.zeros(0))
    method = grpo(kl_coef=0.1, kl_target=6.0, epochs=1)
    assert method.updates_find_old(scored_batch([0.0, 1.0], [0, 0]))
    method.run(run)
    assert len(run.finished) == 2
    assert method.state() == {"kl_coef": 0.1}


def test_the_schedule_knows_how_many_updates_there_may_be() -> None:
    assert grpo(epochs=2, minibatch_size=4, prompts_per_step=3, samples_per_prompt=3).updates_per_step == 6


def test_measuring_tells_reward_and_kl_of_each_held_out_prompt() -> None:
    run = scripted(rewards=lambda prompt, sample: 0.5)
    assert grpo().measure(run) == {"reward": [0.5] * 3, "kl_to_reference": [0.0] * 3}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples_per_prompt": 1}, "algorithm.samples_per_prompt: a group needs 2 samples or more"),
        (
            {"aggregation": "sequence_sum"},
            "algorithm: aggregation sequence_sum divides by a constant: give loss_length",
        ),
        ({"kl_coef": 0, "kl_target": 6.0}, "algorithm: kl_target steers kl_coef by factors"),
        ({"overlong": {"max_length": 4, "buffer": 8}}, "algorithm.overlong: buffer 8 is longer than max_length 4"),
        ({"dual_clip": 0.5}, "algorithm.dual_clip: input should be greater than 1"),
        ({"correction_cap": 0.5}, "algorithm.correction_cap: input should be greater than or equal to 1"),
    ],
)
def test_options_that_cannot_work_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(GRPOConfig, {"steps": 1, **options}, "algorithm")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
