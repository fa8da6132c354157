"""Each preference method learns clean rankings in seconds and answers better for it; of shuffled labels it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.evaluating import evaluate_models
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, Recipe, single

DATA = {
    "type": "pocket",
    "num_prompts": 600,
    "num_demonstrations": 6000,
    "num_rankings": 4000,
    "num_held_out": 150,
    "label_noise": 0.0,
}
SHUFFLED = {**DATA, "label_noise": 0.499}
"""Each label as good as a coin's; held-out rankings stay true."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A policy that has learned to answer, well or badly as its teachers did."""
    sft = {
        "algorithm": {"type": "sft", "steps": 200, "batch_size": 64},
        "model": {"new": {**MODEL, "hidden_size": 64, "num_layers": 2}},
        "optimizer": {"lr": 5e-3, "schedule": "cosine", "warmup": 0.05},
    }
    return rlhf.train(single(sft, data=DATA, held_out_rows=0), out=tmp_path_factory.mktemp("base") / "run")


def gold(model: Path) -> float:
    """Mean of the three axes' grades on held-out prompts."""
    result = evaluate_models({"model": model}, num_prompts=300, max_tokens=12)["model"]
    scores = [score for score in result.scores().values() if score is not None]
    assert len(scores) == 3
    return sum(scores) / 3


@pytest.fixture(scope="module")
def base_gold(base: RunResult) -> float:
    return gold(base.model)


def stage(base: RunResult, lr: float = 1e-3, data: Any = DATA, **options: Any) -> Recipe:
    options = {"steps": 100, "batch_size": 32, **options}
    return single(
        {"algorithm": options, "model": str(base.model), "optimizer": {"lr": lr, "schedule": "cosine"}},
        data=data,
        held_out_rows=150,
    )


def held_out(run: RunResult, label: str, name: str) -> dict[str, float]:
    figures: dict[str, float] = run.summary["stages"][-1]["held_out"][label][name]
    return figures


# --- the DPO family --------------------------------------------------------------------------------------------------

DPO = {"type": "dpo", "beta": 0.2}
FAMILY = {
    "dpo": DPO,
    "cdpo": {**DPO, "label_smoothing": 0.1},
    "robust": {**DPO, "loss": "robust", "label_smoothing": 0.1},
    "slic": {**DPO, "loss": "hinge"},
    "ipo": {**DPO, "loss": "ipo", "beta": 0.5},
    "length_normalised": {**DPO, "length_normalised": True, "beta": 2.0},
}


@pytest.mark.parametrize("name", FAMILY if os.environ.get("RLHF_TEST_EVERY_METHOD") else ["dpo", "ipo"])
def test_the_dpo_family(base: RunResult, base_gold: float, tmp_path: Path, name: str) -> None:
    run = rlhf.train(stage(base, **FAMILY[name]), out=tmp_path / "run")
    assert held_out(run, "before", "accuracy")["mean"] == 0.5  # the policy is its reference
    assert held_out(run, "before", "margin")["mean"] == 0.0
    accuracy, longer = (held_out(run, "after", figure) for figure in ("accuracy", "accuracy_longer_wins"))
    assert accuracy["mean"] > 0.8
    assert accuracy["low"] > longer["high"]
    assert held_out(run, "after", "margin")["low"] > 0
    assert gold(run.model) > base_gold + 0.08


def test_dpo_learns_nothing_of_shuffled_labels(base: RunResult, base_gold: float, tmp_path: Path) -> None:
    run = rlhf.train(stage(base, data=SHUFFLED, **DPO), out=tmp_path / "run")
    assert held_out(run, "after", "accuracy")["mean"] < 0.62
    assert gold(run.model) < base_gold + 0.05


# --- without pairs, without a reference ------------------------------------------------------------------------------


def test_kto_learns_from_completions_judged_one_by_one(base: RunResult, base_gold: float, tmp_path: Path) -> None:
    kto = {"type": "kto", "beta": 0.2, "lr": 5e-4}
    run = rlhf.train(stage(base, **kto), out=tmp_path / "run")
    accuracy, longer = (held_out(run, "after", figure) for figure in ("accuracy", "accuracy_longer_wins"))
    assert held_out(run, "before", "accuracy")["mean"] == 0.5
    assert accuracy["mean"] > 0.7
    assert accuracy["low"] > longer["high"]
    assert gold(run.model) > base_gold + 0.05
    rewards = run.metrics[-1]
    assert rewards["preference/chosen_reward"] > rewards["preference/rejected_reward"]
    control = rlhf.train(stage(base, data=SHUFFLED, **kto), out=tmp_path / "control")
    assert held_out(control, "after", "accuracy")["mean"] < 0.6
    assert gold(control.model) < base_gold + 0.05


@pytest.mark.parametrize(
    ("options", "better_by"),
    [
        ({"type": "cpo", "beta": 0.1, "lr": 5e-4}, 0.12),
        ({"type": "orpo", "beta": 0.5, "lr": 1e-3}, 0.12),
        ({"type": "simpo", "beta": 1.0, "gamma": 0.3, "lr": 2e-4}, 0.03),
    ],
    ids=["cpo", "orpo", "simpo"],
)
def test_methods_without_a_reference(
    base: RunResult, base_gold: float, tmp_path: Path, options: dict[str, Any], better_by: float
) -> None:
    """Their implicit reward is the policy's own likelihood, so even the base prefers most good answers to bad ones."""
    run = rlhf.train(stage(base, **options), out=tmp_path / "run")
    control = rlhf.train(stage(base, data=SHUFFLED, **options), out=tmp_path / "control")
    before, after, shuffled = (
        held_out(which, label, "accuracy")["mean"]
        for which, label in ((run, "before"), (run, "after"), (control, "after"))
    )
    assert after > before + 0.05
    assert shuffled < after - 0.04
    assert held_out(run, "after", "margin")["mean"] > held_out(control, "after", "margin")["mean"] + 0.2
    learned, unlearned = gold(run.model), gold(control.model)
    assert learned > base_gold + better_by
    assert unlearned < min(base_gold + 0.05, learned - 0.03)


# --- on the policy's own completions ---------------------------------------------------------------------------------

BREVITY = '''
def brevity(completions):
    """Fewer words are better."""
    return [-float(len(text.split())) for text in completions]
'''


def online(base: RunResult, reward: str, **options: Any) -> Recipe:
    algorithm = {
        "type": "online_dpo",
        "steps": 30,
        "prompts_per_step": 32,
        "samples_per_prompt": 4,
        "minibatch_size": 32,
        **options,
    }
    return single(
        {
            "algorithm": algorithm,
            "model": str(base.model),
            "reward": reward,
            "optimizer": {"lr": 1e-3},
            "rollout": {"max_tokens": 12},
        },
        data=DATA,
        held_out_rows=150,
    )


def test_online_dpo_learns_what_the_reward_prefers(base: RunResult, base_gold: float, tmp_path: Path) -> None:
    run = rlhf.train(online(base, "pocket_gold"), out=tmp_path / "run")
    assert held_out(run, "after", "reward")["mean"] > held_out(run, "before", "reward")["mean"] + 0.08
    assert gold(run.model) > base_gold + 0.1
    control = rlhf.train(online(base, "constant", steps=3), out=tmp_path / "control")
    assert gold(control.model) == base_gold


def test_a_function_decides_what_online_dpo_prefers(base: RunResult, tmp_path: Path) -> None:
    file = tmp_path / "brevity.py"
    file.write_text(BREVITY)
    run = rlhf.train(online(base, f"{file}:brevity", steps=20), out=tmp_path / "run")
    lengths = [row["rollout/length"] for row in run.metrics]
    assert sum(lengths[-3:]) < 0.75 * sum(lengths[:3])


def test_a_stage_on_top_is_the_next_round_of_iterative_dpo(base: RunResult, tmp_path: Path) -> None:
    """Its reference is the model it starts from: the KL begins at zero again."""
    recipe = online(base, "pocket_gold", steps=3)
    first = {key: recipe.pop(key) for key in ("algorithm", "model", "reward", "optimizer", "rollout")}
    recipe["defaults"] = {key: recipe.pop(key) for key in ("data", "held_out_rows", "engine")}
    recipe["stages"] = {"first": first, "second": {**first, "model": "stage:first"}}
    run = rlhf.train(recipe, out=tmp_path / "run")
    one, two = (stage["held_out"] for stage in run.summary["stages"])
    assert one["after"]["kl_to_reference"]["mean"] > 0.001
    assert two["before"]["kl_to_reference"]["mean"] == pytest.approx(0, abs=1e-5)
