"""RLOO, REINFORCE++ and ReMax: their advantages by hand, what each samples, and what their options refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.policy_updates import PolicyGradient
from rlhf.algorithms.reinforce_pp import ReinforcePP, ReinforcePPConfig
from rlhf.algorithms.remax import ReMax, ReMaxConfig
from rlhf.algorithms.rloo import RLOO, RLOOConfig
from rlhf.errors import ConfigError
from rlhf.types import PolicyOutput, ScoredBatch
from rlhf.validation import validated
from tests.unit.algorithms.scripted_run import Model, ScriptedRun, scored_batch

LENGTHS = [1, 3, 2, 2]
SCORES, GROUPS = [1.0, 4.0, 2.0, 0.0], [0, 0, 1, 1]
POLICY, REFERENCE = -1.0, -1.5
"""Log-probs of every token: half a nat of KL each."""


def rloo(**options: Any) -> RLOO:
    return RLOO(
        RLOOConfig(
            **{"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "epochs": 2, "kl_coef": 0.1, **options}
        )
    )


def reinforce_pp(**options: Any) -> ReinforcePP:
    return ReinforcePP(ReinforcePPConfig(**{"steps": 1, "prompts_per_step": 4, "epochs": 2, "kl_coef": 0.1, **options}))


def remax(**options: Any) -> ReMax:
    return ReMax(ReMaxConfig(**{"steps": 1, "prompts_per_step": 2, "epochs": 2, "kl_coef": 0.1, **options}))


def assessed(method: PolicyGradient[Any], batch: ScoredBatch) -> tuple[Tensor, Any]:
    """Advantages of the response tokens, row by row, and the experience."""
    said = [torch.where(batch.response_mask, value, 9.0) for value in (POLICY, REFERENCE)]
    run = ScriptedRun(policy=Model(said[0]), reference=Model(said[1]))
    experience, figures = method.assess(run, batch)  # type: ignore[arg-type]
    assert (experience.advantages[~experience.response_mask] == 0).all()
    assert figures["policy/kl_to_reference"] == pytest.approx(0.5 * sum(LENGTHS) / 4)
    return experience.advantages[experience.response_mask], experience


def batch(**options: Any) -> ScoredBatch:
    return scored_batch(SCORES, GROUPS, LENGTHS, **options)


def spread(values: list[float]) -> list[float]:
    return [value for value, length in zip(values, LENGTHS, strict=True) for _ in range(length)]


# --- RLOO ------------------------------------------------------------------------------------------------------------


def test_rloo_by_hand() -> None:
    """Scores lose 0.05 for each token, then each is compared with the other of its prompt."""
    found, experience = assessed(rloo(), batch())
    assert found.tolist() == pytest.approx(spread([0.95 - 3.85, 3.85 - 0.95, 2.0, -2.0]))
    assert experience.ref_logprobs is None
    found, experience = assessed(rloo(kl_penalty="k2_in_loss"), batch())
    assert found.tolist() == pytest.approx(spread([-3.0, 3.0, 2.0, -2.0]))
    assert experience.ref_logprobs is not None


def test_rloo_leaves_cut_completions_out_of_the_update_only() -> None:
    found, _ = assessed(rloo(mask_truncated=True), batch(truncated=[1]))
    assert found.tolist() == pytest.approx([0.95 - 3.85, 2.0, 2.0, -2.0, -2.0])


def test_rloo_takes_a_completion_for_one_action() -> None:
    """The loss of a row is -A times the ratio of the whole completion, and rows weigh alike whatever their length."""
    method = rloo()
    _, experience = assessed(method, batch())
    x = (experience.old_logprobs + 0.05).requires_grad_()
    loss = method.policy_loss()
    found = loss(PolicyOutput(logprobs=x, entropy=torch.zeros_like(x)), experience)
    ratio_B = torch.tensor([0.05 * length for length in LENGTHS]).exp()
    advantages_B = torch.tensor([-2.9, 2.9, 2.0, -2.0])
    torch.testing.assert_close(found.total, -(ratio_B * advantages_B).sum())
    assert loss.count(experience) == 4
    (gradient,) = torch.autograd.grad(found.total, x)
    of_row = (-ratio_B * advantages_B).unsqueeze(1)
    torch.testing.assert_close(gradient, torch.where(experience.response_mask, of_row, 0))
    assert rloo(ratio="token").policy_loss().ratio == "token"


def test_rloo_leaves_groups_out_and_samples_in_rounds() -> None:
    run = ScriptedRun(
        rewards=lambda prompt, sample: float(sample) * (prompt != "p0"),
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
    )
    rloo(max_sampling_rounds=2).run(run)  # type: ignore[arg-type]
    assert [asked for asked, _, _ in run.asked] == [["p0", "p1"], ["p2"]]
    (_, figures, rollouts), (trained, _) = run.finished[0], run.policy.trained[0]
    assert (figures["rollout/groups"], figures["rollout/groups_skipped"], len(rollouts)) == (3, 1, 6)
    assert sorted(trained.advantages[:, 2].tolist()) == [-1, -1, 1, 1]


# --- REINFORCE++ -----------------------------------------------------------------------------------------------------


def whitened(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    var = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return [(value - mean) / (var + 1e-8) ** 0.5 for value in values]


def test_reinforce_pp_by_hand() -> None:
    """Every token pays 0.05 for its own KL and for that of the tokens after it."""
    found, experience = assessed(reinforce_pp(), batch())
    returns = [0.95, 3.85, 3.90, 3.95, 1.90, 1.95, -0.10, -0.05]
    assert found.tolist() == pytest.approx(whitened(returns), rel=1e-5)
    assert experience.ref_logprobs is None
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.std().item() == pytest.approx(1, abs=1e-6)


def test_reinforce_pp_with_a_discount() -> None:
    found, _ = assessed(reinforce_pp(gamma=0.5), batch())
    row_1 = [-0.05 + 0.5 * (-0.05 + 0.5 * 3.95), -0.05 + 0.5 * 3.95, 3.95]
    returns = [0.95, *row_1, -0.05 + 0.5 * 1.95, 1.95, -0.05 - 0.5 * 0.05, -0.05]
    assert found.tolist() == pytest.approx(whitened(returns), rel=1e-5)


def test_reinforce_pp_with_a_group_baseline_and_the_kl_in_the_loss() -> None:
    method = reinforce_pp(baseline="group", samples_per_prompt=2, kl_penalty="k2_in_loss")
    found, experience = assessed(method, batch())
    assert found.tolist() == pytest.approx(whitened(spread([-1.5, 1.5, 1.0, -1.0])), rel=1e-5)
    assert experience.ref_logprobs is not None
    assert method.policy_loss().kl_estimator == "k2"


def test_reinforce_pp_leaves_cut_completions_out_of_the_update_only() -> None:
    found, _ = assessed(reinforce_pp(mask_truncated=True, kl_penalty="k3_in_loss"), batch(truncated=[1]))
    everything = whitened(spread(SCORES))
    assert found.tolist() == pytest.approx([everything[0], *everything[4:]], rel=1e-5)


@pytest.mark.parametrize("baseline", ["none", "group"])
def test_reinforce_pp_leaves_groups_out_only_where_it_compares_them(baseline: str) -> None:
    run = ScriptedRun(
        rewards=lambda prompt, sample: float(sample) * (prompt != "p0"),
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
    )
    method = reinforce_pp(
        baseline=baseline, prompts_per_step=2, samples_per_prompt=3, missing_eos_penalty=0.5, epochs=1, kl_coef=0.0
    )
    method.run(run)  # type: ignore[arg-type]
    ((trained, _),) = run.policy.trained
    assert len(trained) == (3 if baseline == "group" else 6)
    assert len(run.finished[0][2]) == 6
    assert ("rollout/groups_skipped" in run.finished[0][1]) == (baseline == "group")


def test_reinforce_pp_charges_a_missing_end_without_groups_too() -> None:
    run = ScriptedRun(
        rewards=lambda prompt, sample: 1.0,
        lengths=lambda prompt, sample: 8 if prompt == "p0" else 2,
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
    )
    reinforce_pp(prompts_per_step=2, missing_eos_penalty=0.5).run(run)  # type: ignore[arg-type]
    assert run.collated[0].scores_B.tolist() == [0.5, 1.0]


# --- ReMax -----------------------------------------------------------------------------------------------------------


def test_remax_by_hand() -> None:
    """The score stands above the baseline already; every token pays 0.05 for its own KL and that of those after it."""
    found, experience = assessed(remax(), batch())
    assert found.tolist() == pytest.approx([0.95, 3.85, 3.90, 3.95, 1.90, 1.95, -0.10, -0.05])
    assert experience.ref_logprobs is None
    found, experience = assessed(remax(kl_penalty="k3_in_loss", gamma=0.5), batch())
    assert found.tolist() == pytest.approx([1.0, 1.0, 2.0, 4.0, 1.0, 2.0, 0.0, 0.0])
    assert experience.ref_logprobs is not None


def test_remax_compares_with_the_greedy_completion() -> None:
    """The greedy completion (sample -1) of p0 has 0.25 and that of p1 0.75; p2's has no reward."""
    greedy = {"p0": 0.25, "p1": 0.75, "p2": None}
    run = ScriptedRun(
        rewards=lambda prompt, sample: greedy[prompt] if sample == -1 else 1.0 + sample,
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
    )
    # The greedy text is "-1", as every sample's text is its number.
    run_remax = remax(prompts_per_step=3, samples_per_prompt=2)
    run_remax.run(run)  # type: ignore[arg-type]
    assert run.asked == [(["p0", "p1", "p2"], 1, True), (["p0", "p1", "p2"], 2, False)]
    assert run.collated[0].scores_B.tolist() == [0.75, 1.75, 0.25, 1.25]
    _, figures, rollouts = run.finished[0]
    assert figures["rollout/greedy_reward"] == pytest.approx(0.5)
    assert [rollout.reward for rollout in rollouts] == [1, 2, 1, 2, 1, 2]


def test_remax_charges_both_for_a_missing_end() -> None:
    run = ScriptedRun(
        rewards=lambda prompt, sample: 1.0,
        lengths=lambda prompt, sample: 8 if (prompt == "p0") == (sample == -1) else 2,
        policy=Model(torch.zeros(0)),
        reference=Model(torch.zeros(0)),
    )
    remax(missing_eos_penalty=0.5).run(run)  # type: ignore[arg-type]
    assert run.collated[0].scores_B.tolist() == [0.5, -0.5]


def test_remax_leaves_cut_completions_out_of_the_update() -> None:
    found, _ = assessed(remax(mask_truncated=True), batch(truncated=[1, 2]))
    assert found.tolist() == pytest.approx([0.95, -0.10, -0.05])


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rloo, reinforce_pp, remax])
def test_without_a_price_there_is_no_reference(make: Any) -> None:
    assert make(kl_coef=0.0).needs == {"policy", "rollout"}
    assert make().needs == {"policy", "reference", "rollout"}
    assert make(kl_coef=0.0).consumes == "prompts"


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (RLOOConfig, {"samples_per_prompt": 1}, "algorithm.samples_per_prompt: a group needs 2 samples or more"),
        (ReinforcePPConfig, {"baseline": "group"}, "algorithm: baseline group needs samples_per_prompt of 2 or more"),
        (ReMaxConfig, {"samples_per_prompt": 0}, "algorithm.samples_per_prompt: input should be greater than or equal"),
    ],
)
def test_groups_of_one_are_refused_in_one_line(config: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(config, {"steps": 1, **options}, "algorithm")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
