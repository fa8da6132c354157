"""A whole run that samples with vLLM: the same on Ray as in one process, and never far from the trainer."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import rlhf
from tests.shrunk_recipes import last_stage_from, shrunk
from tests.tiny_runs import assert_same_weights, weights_of

pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.slow]


def grpo(kind: str) -> dict[str, Any]:
    recipe = shrunk("grpo", kind)
    recipe["stages"]["sft"]["model"]["new"]["hidden_size"] = 64  # heads of 32, the smallest vLLM takes on a CPU
    recipe["stages"]["grpo"]["rollout"] = {**recipe["stages"]["grpo"]["rollout"], "engine": {"type": "vllm"}}
    return recipe


@pytest.mark.parametrize(
    ("kind", "hidden_size", "taken"),
    [
        ("inline", 64, "vllm"),
        ("inline", 32, "transformers, since vLLM cannot run "),
        *([("ray", 64, "vllm")] if os.environ.get("RLHF_TEST_EVERY_METHOD") else []),
    ],
)
def test_auto_says_which_engine_it_took_and_why(
    tmp_path: Path, kind: str, hidden_size: int, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = grpo(kind)
    recipe["stages"]["sft"]["model"]["new"]["hidden_size"] = hidden_size
    recipe["stages"]["grpo"]["rollout"]["engine"] = "auto"
    run = rlhf.train(recipe, out=tmp_path / "run")
    assert run.metrics[-1]["stage"] == "grpo"
    said = re.findall(r"^(?:\[.*?\] )?(rollout\.engine auto: .*)$", capsys.readouterr().err, flags=re.MULTILINE)
    assert len(said) == 1
    assert said[0].startswith(f"rollout.engine auto: {taken}")
    assert "set rollout.engine" not in said[0]


def test_weights_and_figures_are_those_of_one_process(tmp_path: Path) -> None:
    whole = rlhf.train(grpo("inline"), out=tmp_path / "whole")
    runs = [rlhf.train(last_stage_from(grpo(kind), whole.folder), out=tmp_path / kind) for kind in ("inline", "ray")]
    before, after = weights_of(whole.folder / "sft" / "model"), weights_of(runs[0].model)
    assert any(not before[key].equal(after[key]) for key in before)
    assert_same_weights(runs[0].model, runs[1].model)
    for run in runs:
        gaps = [row["rollout/logprob_gap"] for row in run.metrics]
        assert len(gaps) == 2
        assert max(gaps) < 1e-5


@pytest.mark.parametrize("kind", ["inline", *(["ray"] if os.environ.get("RLHF_TEST_EVERY_METHOD") else [])])
def test_a_policy_whose_adapters_alone_travel_stays_where_vllm_samples(tmp_path: Path, kind: str) -> None:
    recipe = grpo(kind)
    recipe["stages"]["grpo"]["model"] = {"path": "stage:sft", "lora": {"rank": 4, "hand_over": "adapter"}}
    recipe["stages"]["grpo"]["optimizer"] = {"lr": 1e-2}
    run = rlhf.train(recipe, out=tmp_path / "run")
    before, after = weights_of(run.folder / "sft" / "model"), weights_of(run.model)
    assert any(not before[key].equal(after[key]) for key in before)
    gaps = [row["rollout/logprob_gap"] for row in run.metrics if row["stage"] == "grpo"]
    assert len(gaps) == 2
    assert max(gaps) < 1e-4
