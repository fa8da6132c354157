"""A run whose prompts ask nothing, fill the context to the last token, or do not fit: no engine ever minds."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlhf
from tests.tiny_runs import GRPO, MODEL, changed, single

pytestmark = pytest.mark.slow

LONGEST = MODEL["context"] - GRPO["rollout"]["max_tokens"]
PROMPTS = ["red blue", " ".join(["red"] * LONGEST), " ".join(["blue"] * (LONGEST + 1)), "<|end|><|user|><|end|>"]
ROWS = [{"prompt": prompt, "completion": "green"} for prompt in PROMPTS]


@pytest.mark.parametrize(("overlong", "fits", "cut"), [("drop", 2, 0), ("cut", 3, 1)])
def test_they_are_dropped_or_cut_before_the_engine_and_counted(
    tmp_path: Path, overlong: str, fits: int, cut: int
) -> None:
    stage = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": "num_tokens"}
    steps = 2
    recipe = changed(
        single(stage),
        {
            "data": {"type": "rows", "rows": ROWS},
            "rows.overlong": overlong,
            "held_out_rows": 0,
            "algorithm.kl_coef": 0.0,
            "algorithm.prompts_per_step": fits,
            "algorithm.steps": steps,
        },
    )
    run = rlhf.train(recipe, out=tmp_path / "run")
    assert len(run.metrics) == steps
    # A step is an epoch of what fits; what stands at the end of an epoch's order is met by the next step, or by none.
    last = run.metrics[-1]
    assert steps - 1 <= last["data/dropped"] / (len(ROWS) - fits) <= steps
    assert last["data/cut"] == cut * steps
    assert last["rollout/groups"] == fits
