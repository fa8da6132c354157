"""Sampling that the model has no room or no tokens for is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.runtime.pipeline import prepare
from tests.tiny_runs import GRPO, pipeline, single
from tests.unit.engines.families import write_model, write_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A context of 64, a vocabulary of 61."""
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder)
    return write_model("llama", folder)


def grpo(model: Any, **rollout: Any) -> dict[str, Any]:
    stage = {key: value for key, value in GRPO.items() if key != "reward_model"}
    return single({**stage, "model": model, "reward": "num_tokens", "rollout": rollout})


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"max_tokens": 64}, "rollout.max_tokens: 64 leaves no room for a prompt in a context of 64 tokens; lower it"),
        ({"max_tokens": 8, "logit_bias": {61: 1}}, "logit_bias: there is no token 61; the model's vocabulary has 61"),
    ],
)
def test_a_model_on_disk(model: str, rollout: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(grpo(model, **rollout))
    assert str(caught.value) == message


def test_the_recipes_own_limit_counts(model: str) -> None:
    prepare(grpo(model, max_tokens=63, logit_bias={60: 1}))
    with pytest.raises(ConfigError, match="30 leaves no room for a prompt in a context of 24 tokens"):
        prepare(grpo({"path": model, "max_length": 24}, max_tokens=30))


def test_a_model_that_an_earlier_stage_makes() -> None:
    prepare(pipeline(stages__ppo__rollout__max_tokens=63))
    with pytest.raises(ConfigError, match="64 leaves no room for a prompt in a context of 64 tokens"):
        prepare(pipeline(stages__ppo__rollout__max_tokens=64))


def test_stages_that_do_not_sample_do_not_care() -> None:
    prepare(pipeline(stages__sft__rollout={"max_tokens": 900}))
