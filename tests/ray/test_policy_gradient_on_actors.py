"""Methods without a value model give the same weights on actors as in one process, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.runtime.result import RunResult
from tests.tiny_runs import GRPO, SFT, assert_same_weights, single, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LENGTH = '''
def length(completions):
    """Longer is better."""
    return [float(len(text.split())) for text in completions]
'''
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {**GRPO["algorithm"], "steps": 2, "max_sampling_rounds": 2, "correction": "token"},
    "remax": {"type": "remax", "steps": 2, "prompts_per_step": 12, "minibatch_size": 6},
}


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return rlhf.train(single(SFT), out=tmp_path_factory.mktemp("sft") / "run")


@pytest.mark.parametrize("name", METHODS)
def test_weights_and_figures_are_equal(ray_up: None, sft: RunResult, name: str, tmp_path: Path) -> None:
    plugin = tmp_path / "long.py"
    plugin.write_text(LENGTH)
    stage = {
        **{key: value for key, value in GRPO.items() if key != "reward_model"},
        "algorithm": METHODS[name],
        "model": str(sft.model),
        "reward": f"{plugin}:length",
    }
    runs = [rlhf.train(single(stage, runtime), out=tmp_path / runtime) for runtime in ("inline", "ray")]
    assert_same_weights(runs[0].model, runs[1].model)
    before, after = weights_of(sft.model), weights_of(runs[0].model)
    assert any(not before[key].equal(after[key]) for key in before)
    inline, ray = (
        [{key: value for key, value in row.items() if not key.startswith("time")} for row in run.metrics]
        for run in runs
    )
    assert inline == ray
