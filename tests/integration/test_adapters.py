"""Adapters, on whole weights and on four bits, in each method that trains them: what is written is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import rlhf
from tests.tiny_runs import DPO, GRPO, PPO, REWARD, changed, pipeline, weights_of

METHODS = {"sft": None, "reward": REWARD, "dpo": DPO, "ppo": PPO, "grpo": GRPO}
SAMPLING = ("ppo", "grpo")
KINDS = {"lora": {"rank": 4}, "qlora": {"rank": 4, "quantize": "nf4"}}
TOKENS = torch.arange(3, 33).view(3, 10)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole models to put adapters on."""
    recipe = pipeline()
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("start") / "run").folder


def trained(method: str, kind: str, start: Path, out: Path) -> rlhf.RunResult:
    recipe = pipeline()
    stage = METHODS[method] or recipe["stages"]["sft"]
    model = {"path": str(start / "sft" / "model"), "lora": KINDS[kind]}
    recipe["stages"] = {method: changed(stage, {"model": model})}
    if method in SAMPLING:
        recipe["stages"][method]["reward_model"] = str(start / "reward" / "model")
    return rlhf.train(recipe, out=out)


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(TOKENS).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_adapters_writes_what_it_trained(method: str, kind: str, start: Path, tmp_path: Path) -> None:
    run = trained(method, kind, start, tmp_path / "run")
    head = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    merged = head.from_pretrained(run.model)
    assert not hasattr(merged.config, "quantization_config")
    before = weights_of(start / "sft" / "model")
    assert any(
        not torch.equal(tensor, before[name]) for name, tensor in weights_of(run.model).items() if name in before
    )
    if method in SAMPLING:  # what samples holds what is trained: four bits, too, from the first step on
        assert all(row["rollout/logprob_gap_max"] < 1e-4 for row in run.metrics)
    if method != "reward" and kind == "lora":
        base = AutoModelForCausalLM.from_pretrained(start / "sft" / "model")
        adapted = PeftModel.from_pretrained(base, run.model / "adapter")
        torch.testing.assert_close(logits(merged), logits(adapted), atol=1e-5, rtol=1e-5)
