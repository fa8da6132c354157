"""Recipes: what a YAML file may say, how it becomes a checked `Recipe`, and the one line for each mistake."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlhf.config import Part
from rlhf.errors import ConfigError
from rlhf.plugins import load_plugins
from rlhf.recipe import Recipe, check_parts, load_recipe
from rlhf.recipe_file import merged, parse_override, read_yaml, shipped_recipes
from rlhf.types import Sampling

SFT = {"algorithm": "sft", "model": "new", "data": "pocket"}
PIPELINE = {
    "defaults": {"data": {"type": "pocket", "num_held_out": 30}, "optimizer": {"lr": 1e-3}},
    "stages": {
        "sft": {"algorithm": "sft", "model": "new"},
        "rm": {"algorithm": "reward_model", "model": "stage:sft", "optimizer": {"warmup": 0.1}},
        "ppo": {"algorithm": {"type": "ppo", "steps": 2}, "model": "stage:sft", "reward_model": "stage:rm"},
    },
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_recipe(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


def stage_of(source: Any, overrides: dict[str, Any] | None = None) -> Any:
    (stage,) = load_recipe(source, overrides).stages.values()
    return stage


def refusal(source: Any, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(source, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def parts_refusal(source: Any) -> str:
    plugins = load_plugins()
    with pytest.raises(ConfigError) as caught:
        check_parts(load_recipe(source), plugins)
    return str(caught.value)


# --- keys and types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "where", "nearest"),
    [
        (SFT | {"optimiser": {"lr": 1}}, "optimiser: unknown key", "'optimizer'"),
        (SFT | {"optimizer": {"lrr": 1}}, "optimizer.lrr: unknown key", "'lr'"),
        (SFT | {"model": {"new": {"hiden_size": 8}}}, "model.new.hiden_size: unknown key", "'hidden_size'"),
        (SFT | {"runtime": {"workers": {"policy": {"cpu": 1}}}}, "runtime.workers.policy.cpu: unknown key", "'cpus'"),
        ({"stages": {"a": SFT | {"rolout": {}}}}, "stages.a.rolout: unknown key", "'rollout'"),
    ],
)
def test_unknown_key_names_its_place_and_the_nearest(recipe: Any, where: str, nearest: str) -> None:
    message = refusal(recipe)
    assert message.startswith(where)
    assert f"Did you mean {nearest}?" in message


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (SFT | {"optimizer": {"lr": "fast"}}, ("optimizer.lr", "number", "'fast'")),
        (SFT | {"optimizer": {"lr": -1}}, ("optimizer.lr", "greater than 0", "-1")),
        (SFT | {"optimizer": {"lr": float("nan")}}, ("optimizer.lr", "finite")),
        (SFT | {"optimizer": 3}, ("optimizer", "3")),
        (SFT | {"held_out_rows": 1.5}, ("held_out_rows", "1.5")),
        (SFT | {"seed": "x"}, ("seed", "'x'")),
        (SFT | {"runtime": {"type": "rey"}}, ("runtime.type", "'ray'", "'rey'")),
        (SFT | {"runtime": {"workers": {"critic": {}}}}, ("runtime.workers", "'critic'")),
        (SFT | {"name": "a b"}, ("name", "'a b'")),
        ({"model": "new", "data": "pocket"}, ("algorithm", "required")),
        ({"algorithm": "sft", "data": "pocket"}, ("model", "required")),
        (SFT | {"model": {"dtype": "float32"}}, ("model", "path", "new")),
        (SFT | {"model": {"new": {"hidden_size": 65}}}, ("model.new", "65", "num_heads 4")),
        (SFT | {"reward": "reward_model"}, ("reward_model: PATH",)),
        ({"stages": {}}, ("stages",)),
        ({"stages": [SFT]}, ("stages", "table of keys")),
        ({"stages": {"a": 3}}, ("stages", "table")),
    ],
)
def test_wrong_value_is_refused_in_one_line(recipe: Any, said: tuple[str, ...]) -> None:
    message = refusal(recipe)
    assert all(words in message for words in said), message


def test_number_written_without_a_point(write: Callable[[str], Path]) -> None:
    path = write("algorithm: sft\nmodel: new\ndata: pocket\noptimizer: {lr: 1e-6}\n")
    assert read_yaml(path)["optimizer"]["lr"] == "1e-6"  # YAML 1.1 reads it as text
    assert stage_of(path).optimizer.lr == 1e-6


def test_sampling_options_reach_the_engine() -> None:
    rollout = {"min_p": 0.1, "stop": "User:", "logit_bias": {7: -100, "9": 2.5}, "engine": "vllm", "top_k": 4}
    config = stage_of(SFT | {"rollout": rollout}).rollout
    assert config.engine == Part(type="vllm")
    asked = config.sampling(3, 11, (2,))
    wanted = Sampling(max_tokens=64, top_k=4, min_p=0.1, stop=("User:",), logit_bias={7: -100.0, 9: 2.5})
    assert asked == replace(wanted, num_samples=3, seed=11, stop_token_ids=(2,))
    assert stage_of(SFT | {"rollout": {"stop": ["a", "b"]}}).rollout.stop == ("a", "b")


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"stop": ""}, "stages.sft.rollout.stop.0: string should have at least 1 character (given: '')."),
        ({"min_p": 1.5}, "rollout.min_p: input should be less than or equal to 1 (given: 1.5)."),
        ({"logit_bias": {-1: 2}}, "rollout.logit_bias.-1"),
        ({"logit_bias": {"the": 2}}, "rollout.logit_bias.the"),
        ({"logit_bias": {5: 200}}, "rollout.logit_bias.5: input should be less than or equal to 100 (given: 200)."),
        ({"max_tokens": 0}, "rollout.max_tokens: input should be greater than or equal to 1 (given: 0)."),
    ],
)
def test_impossible_sampling_is_refused(rollout: Any, said: str) -> None:
    assert said.removeprefix("stages.sft.") in refusal(SFT | {"rollout": rollout})


def test_part_options_are_checked_by_the_part() -> None:
    assert parts_refusal(SFT | {"algorithm": "sff"}).startswith("algorithm: no algorithm is called 'sff'. Did you mean")
    message = parts_refusal(SFT | {"algorithm": {"type": "sft", "epoch": 2}})
    assert message.startswith("algorithm.epoch: unknown key. Did you mean 'epochs'?")
    assert "data.bad_share" in parts_refusal(SFT | {"data": {"type": "pocket", "bad_share": 2}})
    ppo = {"type": "ppo", "steps": 1}
    message = parts_refusal(SFT | {"algorithm": ppo, "reward": [{"type": "constant", "valu": 1}]})
    assert message.startswith("reward.valu: unknown key. Did you mean 'value'?")
    assert parts_refusal(SFT | {"trackers": ["tensorbord"]}).startswith("trackers: no tracker is called 'tensorbord'.")
    assert parts_refusal(SFT | {"monitor": ["kindness"]}).startswith("monitor: no grader is called 'kindness'.")
    rollout = {"engine": {"type": "vllmm"}}
    assert parts_refusal(SFT | {"rollout": rollout}).startswith("rollout.engine: no rollout_engine is called 'vllmm'.")
    rollout = {"engine": {"type": "auto", "batch_size": 4}}
    assert parts_refusal(SFT | {"rollout": rollout}) == (
        "rollout.engine: auto takes no options, given batch_size; name the engine they are of"
    )
    pipeline = {"stages": {"a": SFT, "b": SFT | {"engine": {"type": "torch", "tokens": 1}}}}
    assert parts_refusal(pipeline).startswith("stages.b.engine.tokens: unknown key.")


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("algorithm: sft\nmodel: new\nalgorithm: ppo\n", ("line 3", "'algorithm'", "twice")),
        ("algorithm: sft\noptimizer: {lr: 1, lr: 2}\n", ("line 2", "'lr'", "twice")),
        ("algorithm: sft\n  model: new\n", ("line 2", "not valid YAML")),
        ("algorithm: [sft\nmodel: new\n", ("not valid YAML",)),
        ("- a\n- b\n", ("table of keys", "list")),
        ("", ("is empty", "rlhf recipes copy")),
        ("# nothing yet\n", ("is empty",)),
        ("algorithm: !!python/object/apply:os.system ['true']\n", ("not valid YAML",)),
    ],
)
def test_bad_yaml_names_file_and_line(write: Callable[[str], Path], text: str, said: tuple[str, ...]) -> None:
    message = refusal(write(text))
    assert "mine.yaml" in message
    assert all(words in message for words in said), message


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"description: \xff\xfe\n")
    assert "mine.yaml" in refusal(tmp_path / "mine.yaml")


def test_missing_recipe_suggests_a_name(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write("algorithm: sft\n").parent)
    assert refusal("mien.yaml") == "no recipe file or shipped recipe 'mien.yaml'. Did you mean 'mine.yaml'?"


def test_run_is_named_after_its_file(write: Callable[[str], Path]) -> None:
    assert load_recipe(write(yaml.safe_dump(SFT))).name == "mine"
    assert load_recipe(write(yaml.safe_dump(SFT | {"name": "other"}))).name == "other"


def test_merge_keys_of_yaml_work(write: Callable[[str], Path]) -> None:
    path = write("stages:\n  a: &a {algorithm: sft, model: new, data: pocket}\n  b: {<<: *a, model: 'stage:a'}\n")
    assert load_recipe(path).stages["b"].algorithm.type == "sft"


# --- variables and overrides -----------------------------------------------------------------------------------------


def with_variable(value: Any) -> dict[str, Any]:
    return SFT | {"variables": {"data_dir": value}, "data": {"type": "files", "path": "${data_dir}/rows.jsonl"}}


def test_variable_is_put_in() -> None:
    assert stage_of(with_variable("here")).data.options == {"path": "here/rows.jsonl"}
    assert stage_of(with_variable(None), {"data_dir": "there"}).data.options == {"path": "there/rows.jsonl"}
    assert stage_of(with_variable(None), {"variables.data_dir": "x"}).data.options == {"path": "x/rows.jsonl"}


def test_variable_that_is_needed_is_asked_for() -> None:
    assert refusal(with_variable(None)) == "this recipe needs data_dir: add data_dir=VALUE to the command"


def test_all_variables_that_are_needed_are_named_at_once() -> None:
    said = refusal("sft")
    assert said == "this recipe needs model and data: add model=VALUE data=VALUE to the command"
    assert stage_of(with_variable("x") | {"variables": {"data_dir": "x", "not_used": None}}).data.options


def test_variable_that_is_not_there() -> None:
    recipe = with_variable("x") | {"description": "${data_dri}"}
    assert refusal(recipe) == "${data_dri}: not among the recipe's variables. Did you mean 'data_dir'?"


@pytest.mark.parametrize(
    ("overrides", "read"),
    [
        ({"optimizer.lr": 0.5}, lambda recipe: recipe.stages["sft"].optimizer.lr == 0.5),
        ({"algorithm.epochs": 3}, lambda recipe: recipe.stages["sft"].algorithm.options == {"epochs": 3}),
        ({"algorithm": "pretrain"}, lambda recipe: recipe.stages["pretrain"].algorithm.type == "pretrain"),
        ({"model.new.hidden_size": 16}, lambda recipe: recipe.stages["sft"].model.new.hidden_size == 16),
        ({"model": "folder"}, lambda recipe: recipe.stages["sft"].model.path == "folder"),
        ({"data.seed": 4}, lambda recipe: recipe.stages["sft"].data.options == {"seed": 4}),
        ({"data.type": "rows"}, lambda recipe: recipe.stages["sft"].data.type == "rows"),
        ({"runtime.workers.policy.num": 2}, lambda recipe: recipe.runtime.workers["policy"].num == 2),
        ({"seed": 9}, lambda recipe: recipe.seed == 9),
        ({"trackers": []}, lambda recipe: recipe.trackers == ()),
    ],
)
def test_overrides_reach_short_forms(overrides: dict[str, Any], read: Callable[[Recipe], bool]) -> None:
    assert read(load_recipe(SFT, overrides))


def test_override_of_a_stage_that_is_not_there_names_those_there_are() -> None:
    pipeline = {"stages": {"sft": SFT, "grpo": SFT}}
    said = refusal(pipeline, {"gpro.algorithm.kl_coef": 1})
    assert said == (
        "override gpro.algorithm.kl_coef: this recipe has no stage 'gpro'. Did you mean 'grpo'? Stages: sft, grpo."
    )
    assert load_recipe(pipeline, {"runtime.threads": 1, "defaults.optimizer.lr": 0.5}).stages["sft"].optimizer.lr == 0.5


def test_override_of_a_pipeline_names_the_stage() -> None:
    recipe = load_recipe(PIPELINE, {"ppo.algorithm.kl_coef": 0.5, "stages.sft.optimizer.lr": 2.0})
    assert recipe.stages["ppo"].algorithm.options["kl_coef"] == 0.5
    assert recipe.stages["sft"].optimizer.lr == 2.0
    assert recipe.stages["rm"].optimizer.lr == 1e-3


def test_override_of_a_pipeline_without_a_stage_says_which() -> None:
    message = refusal(PIPELINE, {"algorithm.kl_coef": 0.5})
    assert message.startswith("override algorithm.kl_coef: this recipe has stages (sft, rm, ppo); say which")
    assert "ppo.algorithm.kl_coef=" in message


def test_a_pipelines_variable_may_have_the_name_of_a_stages_setting() -> None:
    recipe = load_recipe(PIPELINE | {"variables": {"algorithm": None}, "name": "with-${algorithm}"}, {"algorithm": "x"})
    assert recipe.name == "with-x"


def test_override_through_a_value_is_refused() -> None:
    assert "seed" in refusal(SFT, {"seed.x": 1})
    assert "optimizer.lrr: unknown key" in refusal(SFT, {"optimizer.lrr": 1})


def test_recipe_given_is_not_changed() -> None:
    given = {"stages": {"sft": {"algorithm": "sft", "model": "new", "data": "pocket"}}, "plugins": {"paths": []}}
    before = yaml.safe_dump(given)
    load_recipe(given, {"sft.optimizer.lr": 1.0})
    assert yaml.safe_dump(given) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", ("a.b", 1)),
        ("a=true", ("a", True)),
        ("a=x=y", ("a", "x=y")),
        ("a=", ("a", None)),
        ("a=[1]", ("a", [1])),
    ],
)
def test_override_words(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


# --- stages and defaults ---------------------------------------------------------------------------------------------


def test_defaults_go_into_every_stage() -> None:
    stages = load_recipe(PIPELINE).stages
    assert list(stages) == ["sft", "rm", "ppo"]
    assert [stage.optimizer.lr for stage in stages.values()] == [1e-3] * 3
    assert stages["rm"].optimizer.warmup == 0.1
    assert stages["ppo"].data.options == {"num_held_out": 30}


def test_defaults_of_another_part_are_not_mixed_in() -> None:
    defaults = {"data": {"type": "pocket", "seed": 3}, "optimizer": {"lr": 1}}
    own = {"data": {"type": "files", "path": "x"}, "optimizer": {"warmup": 0.5}}
    expected = {"data": {"type": "files", "path": "x"}, "optimizer": {"lr": 1, "warmup": 0.5}}
    assert merged(defaults, own) == expected
    assert merged(defaults, {"data": {"seed": 4}})["data"] == {"type": "pocket", "seed": 4}


@pytest.mark.parametrize("short", ["files", "pocket"])
def test_default_part_meets_a_short_form(short: str) -> None:
    recipe = {"defaults": {"data": {"type": "pocket", "seed": 3}}, "stages": {"a": SFT | {"data": short}}}
    data = load_recipe(recipe).stages["a"].data
    assert data.type == short
    assert data.options == ({"seed": 3} if short == "pocket" else {})


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"a": SFT, "b": SFT | {"model": "stage:c"}}, "stage 'b' refers to stage:c, which does not come before it."),
        ({"sft": SFT, "b": SFT | {"model": "stage:stf"}}, "Did you mean 'sft'?"),
        ({"a": SFT | {"model": "stage:b"}, "b": SFT}, "stage 'a' refers to stage:b, which does not come before it."),
        ({"a": SFT | {"model": "stage:a"}}, "stage 'a' refers to stage:a, which does not come before it."),
        ({"a": SFT, "b": SFT | {"value": {"model": "stage:x"}}}, "stage 'b' refers to stage:x"),
    ],
)
def test_stage_reference_must_point_back(stages: Any, said: str) -> None:
    assert said in refusal({"stages": stages})


def test_evaluation_may_refer_to_any_stage() -> None:
    evaluation = {"before": "stage:sft", "after": "stage:ppo"}
    assert load_recipe(PIPELINE | {"evaluation": evaluation}).evaluation is not None
    message = refusal(PIPELINE | {"evaluation": evaluation | {"after": "stage:pppo"}})
    assert "evaluation refers to stage:pppo, which is not a stage. Did you mean 'ppo'?" in message


def test_reward_model_is_the_reward_where_none_is_named() -> None:
    assert [part.type for part in load_recipe(PIPELINE).stages["ppo"].reward] == ["reward_model"]


# --- rewards and plugin files ----------------------------------------------------------------------------------------


def test_reward_forms(write: Callable[[str], Path]) -> None:
    for given in ("constant", {"type": "constant"}, ["constant"], [{"type": "constant"}]):
        (part,) = stage_of(SFT | {"reward": given}).reward
        assert (part.type, part.weight, part.options) == ("constant", 1.0, {})
    (part,) = stage_of(SFT | {"reward": {"type": "constant", "value": 2, "weight": 0.5}}).reward
    assert (part.weight, part.options) == (0.5, {"value": 2})


@pytest.mark.parametrize("file_name", ["mine_reward.py", "my.reward.py"])
def test_plugin_file_is_found_beside_the_recipe(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (tmp_path / file_name).write_text("def short(completions):\n    return [0.0 for _ in completions]\n")
    recipe = load_recipe(write(yaml.safe_dump(SFT | {"reward": f"{file_name}:short"})))
    assert recipe.plugins.paths == (str(tmp_path / f"{file_name}:short"),)
    assert [part.type for part in recipe.stages["sft"].reward] == ["short"]
    plugins = load_plugins(recipe.plugins)
    plugins.require_healthy()
    check_parts(recipe, plugins)


def test_plugin_file_is_found_in_the_working_folder(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "here.py").write_text("")
    recipe = load_recipe(write(yaml.safe_dump(SFT | {"plugins": {"paths": ["here.py"]}})))
    assert recipe.plugins.paths == ("here.py",)


def test_a_file_with_one_function_that_judges_needs_no_name(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "raise RuntimeError('run')\n"
        "def _hidden(completions): ...\n"
        "def words(text): ...\n"
        "async def short(prompts, completions, *, alpha=1): ...\n"
    )
    recipe = load_recipe(write(yaml.safe_dump(SFT | {"reward": [{"type": "mine.py", "alpha": 2}]})))
    assert recipe.plugins.paths == (str(tmp_path / "mine.py:short"),)
    assert [part.type for part in recipe.stages["sft"].reward] == ["short"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "def a(completion): ...\ndef b(solution_str): ...\n",
            r"has 2 functions .*; say which: .*mine.py:a, .*mine.py:b",
        ),
        ("def words(text): ...\n", "mine.py has no function of completions, completion, queries, "),
        ("def words(text: ...\n", r"mine.py, line 1: not valid Python"),
        (None, r"no such file '.*mine.py'. Did you mean 'mines.py'\?"),
    ],
)
def test_a_file_alone_says_which_functions_it_could_be(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mines.py").write_text("")
    if code is not None:
        (tmp_path / "mine.py").write_text(code)
    with pytest.raises(ConfigError, match=words):
        load_recipe(write(yaml.safe_dump(SFT | {"reward": "mine.py"})))


def test_one_file_named_by_two_rewards_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("def a(completions): ...\ndef b(completions): ...\n")
    spec = str(tmp_path / "two.py")
    recipe = load_recipe(SFT | {"reward": [f"{spec}:a", {"type": f"{spec}:b", "weight": 2}]})
    plugins = load_plugins(recipe.plugins)
    plugins.require_healthy()
    check_parts(recipe, plugins)


# --- the resolved recipe ---------------------------------------------------------------------------------------------


def test_resolved_recipe_reads_back_the_same(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(PIPELINE | {"name": "x", "description": "d"}, {"ppo.reward": {"type": "constant", "value": 2}})
    again = load_recipe(write(recipe.as_yaml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_resolved_single_stage_reads_back_the_same(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(SFT | {"model": {"new": {}}, "optimizer": {"lr": "1e-6"}})
    assert load_recipe(write(recipe.as_yaml())) == recipe


def test_digest_is_of_what_decides_the_result() -> None:
    digest = load_recipe(SFT).digest
    assert load_recipe(SFT | {"name": "x", "description": "y"}).digest == digest
    assert load_recipe(SFT, {"seed": 1}).digest != digest
    assert load_recipe(SFT, {"algorithm.epochs": 2}).digest != digest
    here, there, other = (
        load_recipe(SFT | {"plugins": {"paths": [f"{path}:score"]}}).digest for path in ("a.py", "b/a.py", "b/b.py")
    )
    assert here == there != other


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_every_file_in_the_folder_is_shipped(repo_root: Path) -> None:
    assert set(shipped_recipes().values()) == set((repo_root / "rlhf" / "recipes").iterdir()) - {
        repo_root / "rlhf" / "recipes" / "__init__.py",
        repo_root / "rlhf" / "recipes" / "__pycache__",
    }


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipe_is_valid(name: str) -> None:
    raw = read_yaml(shipped_recipes()[name])
    needed = {key: "some/folder" for key, value in (raw.get("variables") or {}).items() if value is None}
    recipe = load_recipe(name, needed)
    plugins = load_plugins(recipe.plugins)
    plugins.require_healthy()
    check_parts(recipe, plugins)
    assert recipe.name == name
    assert recipe.description


# --- anything at all -------------------------------------------------------------------------------------------------

KEYS = ["name", "seed", "plugins", "runtime", "trackers", "evaluation", "stages", "defaults", "variables"]
KEYS += ["algorithm", "model", "data", "reward", "reward_model", "value", "monitor", "engine", "optimizer", "rollout"]
KEYS += ["plugins.paths", "plugins.disable", "stages.a", "stages.a.reward", "model.new", "rollout.engine"]


@pytest.mark.parametrize("value", [None, 3, "x", [], [3], [[]], {}, {"x": 3}, {3: 4}, True])
@pytest.mark.parametrize("key", KEYS)
def test_nothing_but_a_config_error_comes_of_a_wrong_value(key: str, value: Any) -> None:
    recipe: dict[str, Any] = {"stages": {"a": dict(SFT)}} if key.startswith("stages.") else dict(SFT)
    *path, last = key.split(".")
    table = recipe
    for step in path:
        table[step] = dict(table.get(step, {})) if isinstance(table.get(step, {}), dict) else {}
        table = table[step]
    table[last] = value
    for overrides in ({}, {"optimizer.lr": 1.0}):
        with contextlib.suppress(ConfigError):
            load_recipe(recipe, overrides)


def test_a_dotted_key_is_a_setting_even_where_a_variable_has_its_first_name() -> None:
    from rlhf.recipe_file import apply_overrides

    data = {"variables": {"model": None}, "model": {"path": "${model}"}}
    changed = apply_overrides(data, {"model": "here", "model.max_length": 64})
    assert changed == {"variables": {"model": "here"}, "model": {"path": "${model}", "max_length": 64}}
