"""Whole tiny runs of policy-gradient methods: what sampling, temperature, filtering and groups do to the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rlhf
from rlhf.algorithms.policy_updates import PolicyGradient
from rlhf.engines import transformers_rollout
from rlhf.engines.sampling import choose
from rlhf.errors import ConfigError, RunError
from rlhf.runtime.live_run import LiveRun
from rlhf.runtime.result import RunResult
from tests.tiny_runs import GRPO, REWARD, SFT, Recipe, assert_same_weights, changed, pipeline, single, weights_of

METHODS: dict[str, dict[str, Any]] = {
    "grpo": GRPO["algorithm"],
    "rloo": {"type": "rloo", "steps": 3, "prompts_per_step": 6, "samples_per_prompt": 4, "minibatch_size": 12},
    "reinforce_pp": {"type": "reinforce_pp", "steps": 3, "prompts_per_step": 12, "minibatch_size": 6},
    "remax": {"type": "remax", "steps": 3, "prompts_per_step": 12, "minibatch_size": 6},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy and a reward model."""
    return rlhf.train(pipeline(stages={"sft": SFT, "reward": REWARD}), out=tmp_path_factory.mktemp("models") / "run")


def recipe(models: RunResult, method: str = "grpo", **changes: Any) -> Recipe:
    stage = {
        **GRPO,
        "algorithm": METHODS[method],
        "model": str(models.folder / "sft" / "model"),
        "reward_model": str(models.folder / "reward" / "model"),
    }
    return changed(single(stage), {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_the_policy_and_tells_what_it_did(models: RunResult, method: str, tmp_path: Path) -> None:
    run = rlhf.train(recipe(models, method), out=tmp_path / "run")
    before, after = weights_of(models.folder / "sft" / "model"), weights_of(run.folder / "model")
    assert any(not before[name].equal(after[name]) for name in before)
    assert len(run.metrics) == 3
    assert all(row["policy/updates"] >= 1 for row in run.metrics)
    assert all(row["rollout/logprob_gap"] < 1e-4 for row in run.metrics)
    assert run.metrics[0]["policy/kl_to_reference"] == pytest.approx(0, abs=1e-5)
    assert run.metrics[-1]["policy/kl_to_reference"] != 0
    held_out = run.summary["stages"][-1]["held_out"]["after"]
    assert set(held_out) == {"reward", "kl_to_reference"}


def test_temperature_is_the_same_on_both_sides(models: RunResult, tmp_path: Path) -> None:
    """At 0.7 the first update still starts from a ratio of 1, and the log-probs of sampling are those of training."""
    run = rlhf.train(
        recipe(models, rollout__temperature=0.7, algorithm__minibatch_size=24, algorithm__correction="token"),
        out=tmp_path / "run",
    )
    for row in run.metrics:
        assert row["policy/updates"] == 1
        assert row["policy/approx_kl"] < 1e-9
        assert row["policy/clip_fraction_low"] == row["policy/clip_fraction_high"] == 0
        assert row["rollout/logprob_gap"] < 1e-4
        assert row["rollout/correction"] == pytest.approx(1, abs=1e-4)
    plain = rlhf.train(recipe(models, algorithm__minibatch_size=24), out=tmp_path / "plain")
    assert plain.metrics[0]["policy/entropy"] > run.metrics[0]["policy/entropy"] + 0.1


@pytest.mark.parametrize("changes", [{"rollout__top_p": 0.5}, {"rollout__top_k": 4}], ids=["top_p", "top_k"])
def test_the_kl_is_that_of_the_whole_distribution(models: RunResult, changes: dict[str, Any], tmp_path: Path) -> None:
    """However sampling was filtered: an untouched policy has no KL to itself, and importance weights are 1."""
    run = rlhf.train(recipe(models, algorithm__correction="sequence", **changes), out=tmp_path / "run")
    first = run.metrics[0]
    assert first["policy/kl_to_reference"] == 0
    assert first["rollout/logprob_gap"] < 1e-4
    assert first["rollout/correction"] == pytest.approx(1, abs=1e-3)
    plain = rlhf.train(recipe(models), out=tmp_path / "plain")
    assert first["reward/mean"] != plain.metrics[0]["reward/mean"]


def test_a_correction_of_one_changes_nothing(models: RunResult, tmp_path: Path) -> None:
    runs = [
        rlhf.train(recipe(models, algorithm__correction=level), out=tmp_path / level)
        for level in ("off", "token", "sequence")
    ]
    before, *after = (weights_of(run.folder / "model") for run in runs)
    for weights in after:
        assert all(tensor.allclose(before[name], atol=1e-4) for name, tensor in weights.items())


def test_a_constant_reward_passes_every_step_over(models: RunResult, tmp_path: Path) -> None:
    run = rlhf.train(recipe(models, reward="constant", reward_model=None), out=tmp_path / "run")
    for row in run.metrics:
        assert row["policy/updates"] == 0
        assert row["rollout/groups_skipped"] == row["rollout/groups"] == 6
        assert row["reward/mean"] == 0
    assert_same_weights(models.folder / "sft" / "model", run.folder / "model")


def test_rounds_of_sampling_replace_the_groups_left_out(models: RunResult, tmp_path: Path) -> None:
    """With a reward that is the same for most prompts, rounds ask for more of them and go on with what they have."""
    plugin = tmp_path / "some.py"
    plugin.write_text(
        "def some(completions, prompts):\n"
        '    """Length, for every third prompt by its length."""\n'
        "    return [float(len(c)) if len(str(p)) % 3 == 0 else 0.0 for c, p in zip(completions, prompts)]\n"
    )
    run = rlhf.train(
        recipe(models, reward=f"{plugin}:some", reward_model=None, algorithm__max_sampling_rounds=3),
        out=tmp_path / "run",
    )
    for row in run.metrics:
        assert row["rollout/groups"] > 6
        assert 0 < row["rollout/groups"] - row["rollout/groups_skipped"] <= 6


def test_a_price_on_length_and_on_cut_answers_is_not_part_of_the_reward_that_is_told(
    models: RunResult, tmp_path: Path
) -> None:
    penalties = {
        "algorithm__missing_eos_penalty": 5.0,
        "algorithm__overlong": {"max_length": 8, "buffer": 4, "penalty": 3.0},
    }
    plain, priced = (
        rlhf.train(recipe(models, **changes), out=tmp_path / str(len(changes))) for changes in ({}, penalties)
    )
    assert priced.metrics[0]["reward/mean"] == plain.metrics[0]["reward/mean"]
    before, after = (weights_of(run.folder / "model") for run in (plain, priced))
    assert any(not before[name].equal(after[name]) for name in before)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_a_group_of_one_is_refused_before_anything_starts(models: RunResult, kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="samples_per_prompt: a group needs 2 samples or more") as caught:
        rlhf.train(recipe(models, kind, algorithm__samples_per_prompt=1), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_ppo_takes_the_kl_into_the_loss_and_whitens_rewards(models: RunResult, tmp_path: Path) -> None:
    from tests.tiny_runs import PPO

    def ppo(**options: Any) -> RunResult:
        stage = recipe(models) | {"algorithm": {**PPO["algorithm"], **options}}
        return rlhf.train(stage, out=tmp_path / "_".join(["ppo", *options]))

    plain = ppo()
    for options in (
        {"kl_penalty": "k3_in_loss"},
        {"whiten_rewards": True},
        {"aggregation": "sequence_mean"},
        {"dual_clip": 1.5, "correction": "token"},
    ):
        run = ppo(**options)
        assert ("policy/kl_loss" in run.metrics[-1]) == ("kl_penalty" in options)
        if "dual_clip" in options:
            assert "policy/clip_fraction_dual" in run.metrics[-1]
            continue
        before, after = (weights_of(r.folder / "model") for r in (plain, run))
        assert any(not before[name].equal(after[name]) for name in before), options


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_old_log_probs_found_by_the_update_are_those_asked_before(
    models: RunResult, kl_coef: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One update a step needs no pass before it: the same weights, and the same figures of both engines."""
    one = recipe(models, algorithm__minibatch_size=24, algorithm__kl_coef=kl_coef)
    found = rlhf.train(one, out=tmp_path / "found")
    monkeypatch.setattr(PolicyGradient, "updates_find_old", lambda self, batch: False)
    asked = rlhf.train(one, out=tmp_path / "asked")
    theirs = weights_of(asked.folder / "model")
    for name, tensor in weights_of(found.folder / "model").items():
        torch.testing.assert_close(tensor, theirs[name], atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    timings = {name for name in asked.metrics[0] if name.startswith("time")}
    for left, right in zip(found.metrics, asked.metrics, strict=True):
        assert left.keys() - timings == right.keys() - timings
        for name in left.keys() - timings:
            assert left[name] == pytest.approx(right[name], rel=1e-3, abs=1e-5), name


def test_samples_of_another_policy_stop_a_run_of_one_update_a_step(
    models: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollout engine finds every token half a nat less likely: the first update sees it, and none are handed on."""

    def lowered(*arguments: Any) -> Any:
        tokens, logprobs = choose(*arguments)
        return tokens, logprobs - 0.5

    monkeypatch.setattr(transformers_rollout, "choose", lowered)
    monkeypatch.setattr(LiveRun, "publish_weights", lambda run: pytest.fail("weights were handed on"))
    with pytest.raises(RunError, match=r"differ by 0\.5 nats a token .* no weights trained on them were kept"):
        rlhf.train(recipe(models, algorithm__minibatch_size=24), out=tmp_path / "run")
