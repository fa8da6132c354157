"""A role that reads other tokens than the policy is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.config import ModelConfig
from rlhf.errors import ConfigError
from rlhf.plugins import load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.models import write_new_model
from rlhf.runtime.pipeline import prepare
from rlhf.runtime.plan import build_dataset, plan_stage
from rlhf.runtime.vocabularies import require_one_vocabulary
from tests.tiny_runs import MODEL, PPO, SFT, Recipe, pipeline, single

BYTES = {**MODEL, "tokenizer": {"type": "bytes", "vocab_size": 300}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two models of one vocabulary, and one of another."""
    folder = tmp_path_factory.mktemp("models")
    data = build_dataset(load_recipe(single(SFT)).stages["sft"], load_plugins())
    for name, new, seed in (("one", MODEL, 0), ("other", MODEL, 1), ("foreign", BYTES, 0)):
        write_new_model(ModelConfig.model_validate({"new": new}), data, seed, folder / name)
    return {name: str(folder / name) for name in ("one", "other", "foreign")}


def ppo(folders: dict[str, str], **changes: Any) -> Recipe:
    return single({**PPO, "model": folders["one"], "reward_model": folders["other"]}, **changes)


def test_models_of_one_vocabulary_go_together(folders: dict[str, str]) -> None:
    prepare(ppo(folders, reference=folders["other"], reward_model=[folders["one"], folders["other"]]))


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("reference", lambda f: {"reference": f["foreign"]}),
        ("reward_2", lambda f: {"reward_model": [f["other"], f["foreign"]]}),
        ("value", lambda f: {"value": {"model": f["foreign"]}}),
    ],
)
def test_another_vocabulary_is_refused_by_role_before_anything_runs(folders, role, change) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(ppo(folders, **change(folders)))
    message = str(caught.value)
    assert message.startswith(f"{role}: the model {folders['foreign']} has another vocabulary than {folders['one']}")
    assert "\n" not in message


def test_a_stages_model_has_the_vocabulary_of_what_it_starts_from(folders: dict[str, str]) -> None:
    recipe = pipeline(stages__sft__model=folders["one"], stages__reward__model=folders["foreign"])
    with pytest.raises(ConfigError, match=r"reward: the model .*foreign has another vocabulary than .*one"):
        prepare(recipe)
    prepare(pipeline(stages__sft__model=folders["one"], stages__reward__model=folders["other"]))


def test_fresh_models_of_two_stages_are_compared_once_they_exist(folders: dict[str, str]) -> None:
    recipe = pipeline(stages__reward__model={"new": BYTES})
    prepare(recipe)  # nothing to compare yet
    plan = plan_stage(load_recipe(ppo(folders, reward_model=folders["foreign"])), "ppo", load_plugins(), Path("r"))
    with pytest.raises(ConfigError, match=r"value: the model .*foreign has another vocabulary"):
        require_one_vocabulary(plan)
