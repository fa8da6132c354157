"""Expected numbers published by other projects (torchtune, SkyRL, NeMo, open-instruct, Stanford CS336): all of them.

`OURS` and `OURS_CS336` map each case to our call; what no function of `functional` answers is in `NOT_HERE` with the
reason. A case of the data that is in neither fails, so that none passes unseen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.functional.advantages import discounted_returns, gae, token_rewards
from rlhf.functional.aggregation import prompt_mean, sequence_mean, sequence_sum, token_mean, weighted_sum
from rlhf.functional.dpo_loss import dpo_hinge_loss, dpo_logits, dpo_loss
from rlhf.functional.group_advantages import (
    grpo_advantages,
    leave_one_out_baseline,
    maxrl_advantages,
    rloo_advantages,
)
from rlhf.functional.kl import AdaptiveKL, k1, k2, k3, update_kl
from rlhf.functional.logprobs import entropy
from rlhf.functional.masked import masked_mean, masked_sum, masked_var, whiten
from rlhf.functional.policy_loss import clipped_policy_loss, policy_gradient_loss

Inputs = dict[str, Any]
Case = dict[str, Any]


def f(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def on(values: Any) -> Tensor:
    return torch.tensor(values).bool()


def everywhere(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


# --- rl_loss_cases.json -----------------------------------------------------------------------------------------------


def run_kl(estimator: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Inputs], Tensor]:
    def call(inputs: Inputs) -> Tensor:
        logprobs = f(inputs["logp"] if "logp" in inputs else inputs["logprobs"])
        ref = f(inputs["ref"] if "ref" in inputs else inputs["ref_logprobs"])
        return estimator(logprobs, ref, on(inputs["mask"]) if "mask" in inputs else everywhere(logprobs))

    return call


def run_token_rewards(inputs: Inputs) -> Tensor:
    logprobs = f(inputs["logprobs"])
    mask = everywhere(logprobs)
    return token_rewards(f(inputs["scores"]), k1(logprobs, f(inputs["ref_logprobs"]), mask), mask, inputs["kl_coef"])


def run_gae(inputs: Inputs) -> tuple[Tensor, Tensor]:
    rewards = f(inputs["rewards"])
    return gae(rewards, f(inputs["values"]), everywhere(rewards), inputs["gamma"], inputs["lam"])


def run_whitened_gae(inputs: Inputs) -> Tensor:
    return whiten(run_gae(inputs)[0], on(inputs["mask"]))


def run_dpo(loss: Callable[[Tensor, float], Tensor], scale: str) -> Callable[[Inputs], Tensor]:
    names = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    return lambda inputs: loss(dpo_logits(*(f(inputs[name]) for name in names)), inputs[scale])


def run_returns(inputs: Inputs) -> Tensor:
    return discounted_returns(f(inputs["rewards"]), on(inputs["mask"]), inputs["gamma"])


def run_group(advantages: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Inputs], Tensor]:
    return lambda inputs: advantages(f(inputs["scores"]), torch.tensor(inputs["group"]))


def run_aggregation(mode: Callable[[Tensor, Inputs], tuple[Tensor, Tensor]]) -> Callable[[Inputs], Tensor]:
    def call(inputs: Inputs) -> Tensor:
        weights, count = mode(on(inputs["mask"]), inputs)
        return (weighted_sum(f(inputs["x"]), weights) / count).unsqueeze(0)

    return call


def run_adaptive_kl(inputs: Inputs) -> Tensor:
    controller = AdaptiveKL(coef=inputs["init"], target=inputs["target"], horizon=inputs["horizon"])
    return f([update_kl(controller, inputs["current"], inputs["n_steps"]).coef])


def run_average_logprob(inputs: Inputs) -> Tensor:
    labels = torch.tensor(inputs["labels"])
    return masked_mean(f(inputs["per_token_logps"])[:, :-1], labels[:, 1:] != -100, dim=1)


OURS: dict[str, Callable[[Inputs], Tensor]] = {
    "tt_kl_k1": run_kl(k1),
    "tt_ppo_token_rewards": run_token_rewards,
    "tt_masked_mean": lambda i: masked_mean(f(i["x"]), on(i["mask"]), dim=1),
    "tt_masked_var_unbiased": lambda i: masked_var(f(i["x"]), on(i["mask"])).unsqueeze(0),
    "tt_gae_returns": lambda i: run_gae(i)[1],
    "tt_dpo_sigmoid": run_dpo(dpo_loss, "beta"),
    "tt_rso_hinge": run_dpo(dpo_hinge_loss, "gamma"),
    "sk_kl_k1": run_kl(k1),
    "sk_kl_k2": run_kl(k2),
    "sk_kl_k3": run_kl(k3),
    "sk_rpp_reset_after_eos": run_returns,
    "sk_rpp_gamma": run_returns,
    "sk_rloo": run_group(rloo_advantages),
    "sk_grpo_no_std": run_group(lambda s, g: grpo_advantages(s, g, divide_by_std=False)),
    "sk_maxrl": run_group(maxrl_advantages),
    "sk_gae_ret_0": lambda i: run_gae(i)[1],
    "sk_gae_ret_1": lambda i: run_gae(i)[1],
    "sk_gae_ret_2": lambda i: run_gae(i)[1],
    "sk_gae_adv_whitened_masked": run_whitened_gae,
    "sk_adaptive_kl": run_adaptive_kl,
    "sk_token_mean": run_aggregation(lambda mask, _: token_mean(mask)),
    "sk_sequence_mean": run_aggregation(lambda mask, _: sequence_mean(mask)),
    "sk_seq_mean_token_sum_norm": run_aggregation(lambda mask, i: sequence_sum(mask, i["max_len"])),
    "sk_prompt_mean": run_aggregation(lambda mask, i: prompt_mean(mask, torch.tensor(i["groups"]))),
    "na_gae_lambda0_adv": lambda i: run_gae(i)[0],
    "na_gae_lambda0_ret": lambda i: run_gae(i)[1],
    "na_rloo_baseline_masked": lambda i: leave_one_out_baseline(
        f(i["rewards"]), torch.tensor(i["group"]), on(i["valid"])
    ),
    "na_entropy_bits": lambda i: (entropy(f(i["probs"]).log()) / math.log(2)).unsqueeze(0),
    "oi_avg_logprob": run_average_logprob,
}

ON_THE_MASK = {
    "sk_rpp_reset_after_eos": "upstream leaves the padding's own reward in the padding; ours is zero there",
    "sk_gae_adv_whitened_masked": "upstream whitens the masked token too; ours is zero there",
}
"""Cases compared on the mask only, and why. Outside it ours must be zero."""


def load_rl_cases(data_dir: Path) -> dict[str, Case]:
    rows = json.loads((data_dir / "fixtures" / "rl_loss_cases.json").read_text())
    return {row["id"]: row for row in rows}


@pytest.mark.parametrize("name", OURS)
def test_published_loss_case(name: str, data_dir: Path) -> None:
    case = load_rl_cases(data_dir)[name]
    expected = f(case["expected"])
    if name in ON_THE_MASK:
        expected = torch.where(on(case["inputs"]["mask"]), expected, 0)
    torch.testing.assert_close(OURS[name](case["inputs"]).double(), expected, rtol=0, atol=case["tol"])


def test_every_published_loss_case_is_mapped(data_dir: Path) -> None:
    assert set(load_rl_cases(data_dir)) == set(OURS)


# --- cs336_a5_snapshots.json ------------------------------------------------------------------------------------------


def run_cs336_grpo(inputs: Inputs) -> Tensor:
    scores = torch.tensor(inputs["raw_rewards"])
    group = torch.arange(len(scores)) // inputs["group_size"]
    return grpo_advantages(scores, group, divide_by_std="eps" in inputs)


def run_cs336_gradient(inputs: Inputs) -> Tensor:
    logprobs = torch.tensor(inputs["logp"])
    return policy_gradient_loss(logprobs, torch.tensor(inputs["adv"]).expand_as(logprobs), everywhere(logprobs))


def cs336_clip_losses(inputs: Inputs, logprobs: Tensor, mask: Tensor) -> Tensor:
    advantages = torch.tensor(inputs["adv"]).expand_as(logprobs)
    clip = inputs["cliprange"]
    return clipped_policy_loss(logprobs, torch.tensor(inputs["old"]), advantages, mask, clip, clip).losses


def run_cs336_clip(inputs: Inputs) -> Tensor:
    logprobs = torch.tensor(inputs["logp"])
    return cs336_clip_losses(inputs, logprobs, everywhere(logprobs))


def run_cs336_grpo_step(inputs: Inputs) -> dict[str, Tensor]:
    logprobs, mask = torch.tensor(inputs["logp"], requires_grad=True), on(inputs["mask"])
    weights, count = sequence_mean(mask)
    loss = weighted_sum(cs336_clip_losses(inputs, logprobs, mask), weights) / count / inputs["grad_accum"]
    loss.backward()
    assert logprobs.grad is not None
    return {"loss": loss.detach(), "policy_log_probs_grad": logprobs.grad}


def run_cs336_sft_step(inputs: Inputs) -> dict[str, Tensor]:
    logprobs, mask = torch.tensor(inputs["logp"], requires_grad=True), on(inputs["mask"])
    loss = masked_sum(-logprobs, mask) / inputs["norm"] / len(mask) / inputs["grad_accum"]
    loss.backward()
    assert logprobs.grad is not None
    return {"loss": loss.detach(), "policy_log_probs_grad": logprobs.grad}


def run_cs336_masked_sum(inputs: Inputs) -> Tensor:
    return masked_sum(torch.tensor(inputs["x"]), on(inputs["mask"]), inputs["dim"]) / inputs["norm"]


def run_cs336_masked_mean(inputs: Inputs) -> Tensor:
    return masked_mean(torch.tensor(inputs["x"]), on(inputs["mask"]), inputs["dim"])


OURS_CS336: dict[str, Callable[[Inputs], Tensor | dict[str, Tensor]]] = {
    "test_compute_entropy": lambda i: entropy(torch.tensor(i["logits"])),
    "test_compute_group_normalized_rewards_normalize_by_std": run_cs336_grpo,
    "test_compute_group_normalized_rewards_no_normalize_by_std": run_cs336_grpo,
    "test_compute_naive_policy_gradient_loss": run_cs336_gradient,
    "test_compute_grpo_clip_loss_large_cliprange": run_cs336_clip,
    "test_compute_grpo_clip_loss_small_cliprange": run_cs336_clip,
    "test_compute_policy_gradient_loss_grpo_clip": run_cs336_clip,
    "test_compute_policy_gradient_loss_no_baseline": run_cs336_gradient,
    "test_compute_policy_gradient_loss_reinforce_with_baseline": run_cs336_gradient,
    "test_grpo_microbatch_train_step_grpo_clip": run_cs336_grpo_step,
    "test_sft_microbatch_train_step": run_cs336_sft_step,
    "test_sft_microbatch_train_step_normalize": run_cs336_sft_step,
    "test_masked_mean_dimlast": run_cs336_masked_mean,
    "test_masked_normalize_dimlast": run_cs336_masked_sum,
    "test_masked_mean_dimNone": run_cs336_masked_mean,
    "test_masked_normalize_dimNone": run_cs336_masked_sum,
}

NOT_HERE = {
    "per_instance_dpo_loss": "the snapshot needs tiny-gpt2 weights that the data does not hold",
    "parse_gsm8k": "a rule that reads an answer from text: a reward's business, not tensor maths",
}
"""Extras of the snapshot that no function of `functional` answers."""


def load_cs336(data_dir: Path) -> dict[str, Any]:
    snapshots: dict[str, Any] = json.loads((data_dir / "fixtures" / "cs336_a5_snapshots.json").read_text())
    return snapshots


@pytest.mark.parametrize("name", OURS_CS336)
def test_cs336_snapshot(name: str, data_dir: Path) -> None:
    snapshots = load_cs336(data_dir)
    case = next(case for case in snapshots["cases"] if case["name"] == name)
    inputs = {
        key: snapshots["shared"][value.removeprefix("shared.")] if str(value).startswith("shared.") else value
        for key, value in case["inputs"].items()
    }
    ours = OURS_CS336[name](inputs)
    expected = dict(case["expected"])
    if "normalized_rewards" in expected:  # stands beside a copy of the input
        expected = {"array": expected["normalized_rewards"]}
    found = ours if isinstance(ours, dict) else {"array": ours}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], torch.tensor(value), rtol=1e-5, atol=1e-6)


def test_every_cs336_snapshot_is_mapped(data_dir: Path) -> None:
    snapshots = load_cs336(data_dir)
    assert {case["name"] for case in snapshots["cases"]} == set(OURS_CS336)
    assert set(snapshots["extra"]) == set(NOT_HERE)
