"""A stage, resolved: its roles, their weights, its seeds and steps; and what cannot work, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError, PluginError
from rlhf.plugins import Plugins, PluginSettings, load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.plan import StagePlan, derived_seed, plan_stage, stage_seed
from tests.tiny_runs import MODEL, PPO, SFT, changed, pipeline, single

RUN = Path("runs/r")


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def plan(plugins: Plugins, recipe: dict[str, Any], name: str) -> StagePlan:
    return plan_stage(load_recipe(recipe), name, plugins, RUN)


def test_every_stage_of_a_pipeline_has_a_folder_and_a_later_one_finds_the_earlier(plugins: Plugins) -> None:
    ppo = plan(plugins, pipeline(), "ppo")
    assert ppo.folder == RUN / "ppo"
    assert ppo.specs["policy"].model.path == str(RUN / "sft" / "model")
    assert ppo.specs["reference"].model.path == str(RUN / "sft" / "model")
    assert ppo.specs["reward"].model.path == str(RUN / "reward" / "model")
    assert ppo.specs["value"].model.path == str(RUN / "reward" / "model")


def test_a_single_stage_has_the_folder_of_the_run(plugins: Plugins) -> None:
    sft = plan(plugins, single(SFT), "sft")
    assert (sft.folder, sft.model_folder) == (RUN, RUN / "model")


def test_only_what_is_trained_has_an_optimizer(plugins: Plugins) -> None:
    ppo = plan(plugins, pipeline(), "ppo")
    assert {role: spec.optimizer is not None for role, spec in ppo.specs.items()} == {
        "policy": True,
        "reference": False,
        "value": True,
        "reward": False,
    }


def test_schedules_span_every_optimizer_step_of_the_run(plugins: Plugins) -> None:
    ppo = plan(plugins, pipeline(), "ppo")
    assert ppo.num_steps == 3
    # 8 prompts x 2 samples in minibatches of 8, twice over, for 3 steps.
    assert ppo.specs["policy"].num_steps == 3 * 2 * 2
    uneven = plan(plugins, pipeline(stages__ppo__algorithm__minibatch_size=7), "ppo")
    assert uneven.specs["policy"].num_steps == 3 * 2 * 3


def test_temperature_divides_the_logits_of_policy_methods_only(plugins: Plugins) -> None:
    recipe = pipeline(stages__ppo__rollout__temperature=0.7, stages__sft__rollout={"temperature": 0.7})
    assert plan(plugins, recipe, "ppo").specs["policy"].temperature == 0.7
    assert plan(plugins, recipe, "sft").specs["policy"].temperature == 1.0


def test_a_lora_policy_has_no_reference_of_its_own(plugins: Plugins) -> None:
    lora = {"path": "stage:sft", "lora": {"rank": 4}}
    ppo = plan(plugins, pipeline(stages__ppo__model=lora), "ppo")
    assert set(ppo.specs) == {"policy", "value", "reward"}
    assert ppo.specs["value"].model.lora is None
    named = plan(plugins, pipeline(stages__ppo__model=lora, stages__ppo__reference="stage:sft"), "ppo")
    assert set(named.specs) == {"policy", "reference", "value", "reward"}


def test_without_a_reward_model_the_value_starts_from_the_policy(plugins: Plugins) -> None:
    recipe = pipeline(stages__ppo__reward="pocket_gold", stages__ppo__reward_model=None)
    ppo = plan(plugins, recipe, "ppo")
    assert set(ppo.specs) == {"policy", "reference", "value"}
    assert ppo.specs["value"].model.path == str(RUN / "sft" / "model")


def test_a_fresh_model_is_found_by_every_role_once_it_is_written(plugins: Plugins) -> None:
    recipe = single({**PPO, "model": {"new": MODEL}, "reward_model": None, "reward": "constant"})
    fresh = plan(plugins, recipe, "ppo").with_model(Path("there"))
    assert {spec.model.path for spec in fresh.specs.values()} == {"there"}
    assert fresh.config.model.path == "there"
    assert fresh.config.model.new is None


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_a_stage_keeps_its_seed_when_others_come_and_go(plugins: Plugins) -> None:
    whole = plan(plugins, pipeline(), "sft")
    alone = pipeline()
    alone["stages"] = {"sft": alone["stages"]["sft"]}
    assert plan(plugins, alone, "sft").seed == whole.seed
    assert stage_seed(0, "sft") != stage_seed(0, "ppo")
    assert stage_seed(0, "sft") != stage_seed(1, "sft")


def test_roles_draw_from_seeds_of_their_own(plugins: Plugins) -> None:
    specs = plan(plugins, pipeline(), "ppo").specs
    assert len({spec.seed for spec in specs.values()}) == len(specs)


def test_a_derived_seed_is_the_same_everywhere_and_fits_63_bits() -> None:
    assert derived_seed(0, "sample", 1) == derived_seed(0, "sample", 1)
    assert derived_seed(0, "sample", 1) != derived_seed(0, "sample", 2)
    assert all(0 <= derived_seed(n) < 2**63 for n in range(100))
    # Written down: a change would silently change every published run.
    assert derived_seed(0, "stage", "sft") == 2800454735269524237


# --- refused ---------------------------------------------------------------------------------------------------------


def test_data_of_another_kind_is_refused_by_name(plugins: Plugins) -> None:
    recipe = single(SFT, data={"type": "rows", "rows": [{"prompt": "p", "chosen": "a", "rejected": "b"}]})
    recipe["algorithm"] = {"type": "pretrain"}
    said = r"stage 'pretrain': pretrain needs texts, but its data .rows. has .*rankings \(for .*reward_model.*\)"
    with pytest.raises(DataError, match=said):
        plan(plugins, recipe, "pretrain")


def test_greedy_sampling_and_no_reward_are_refused(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.temperature: 0 is greedy"):
        plan(plugins, pipeline(stages__ppo__rollout__temperature=0), "ppo")
    with pytest.raises(ConfigError, match="ppo needs a reward"):
        plan(plugins, pipeline(stages__ppo__reward_model=None), "ppo")


@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_more_ranks_than_the_engine_takes_are_refused_on_ray(plugins: Plugins, name: str) -> None:
    workers = {"policy": {"num": 2}}
    with pytest.raises(ConfigError, match=r"engine: torch is one process, and runtime\.workers asks for 2"):
        plan(plugins, pipeline("ray", runtime__workers=workers), name)
    spread = pipeline("ray", runtime__workers=workers, defaults__engine={"type": "deepspeed"})
    assert plan(plugins, spread, name).engine.type == "deepspeed"


def test_a_recipe_given_is_not_changed() -> None:
    recipe = pipeline()
    assert changed(recipe, {"stages.ppo.model": "x"})["stages"]["ppo"]["model"] == "x"
    assert recipe["stages"]["ppo"]["model"] == "stage:sft"


def test_an_algorithm_that_is_none_is_told_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from rlhf import hookimpl\n"
        "class Mine:\n"
        "    needs, consumes = frozenset({'policy'}), 'prompts'\n"
        "    def __init__(self, config): ...\n"
        "    def run(self, run): ...\n"
        "@hookimpl\n"
        "def register_algorithms(register):\n"
        "    register('mine', Mine)\n"
    )
    recipe = single({**SFT, "algorithm": "mine"})
    with pytest.raises(PluginError, match=r"'mine' has no network, .*, restore; inherit from rlhf.protocols.Algorithm"):
        plan(load_plugins(PluginSettings(paths=(str(file),))), recipe, "mine")
