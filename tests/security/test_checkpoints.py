"""Hostile checkpoints where a user would use them: nothing in them runs, and what is refused is refused in a line."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import rlhf
from rlhf.config import AnswersConfig
from rlhf.data import chat
from rlhf.data.render_time import RenderLimit
from rlhf.errors import ConfigError, RunError, UserError
from rlhf.runtime.evaluating import evaluate_models
from rlhf_3h import linear
from tests.integration.saved_items import resealed
from tests.security import payloads
from tests.tiny_runs import DPO, PPO, SFT, Recipe, changed, pipeline, single


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a policy and a reward model, and checkpoints of the latter's stage."""
    recipe = pipeline(stages__sft__algorithm__steps=1, stages__reward__algorithm__steps=2)
    recipe = changed(recipe, {"stages.reward.checkpoint.every": 1, "defaults.held_out_rows": 0})
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("trained") / "run").folder


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "the payload ran"


def hostile_copy(source: Path, target: Path, make: payloads.Hostile, marker: Path) -> Path:
    shutil.copytree(source, target)
    make(target, marker)
    return target


def short(stage: Recipe, **changes: Any) -> Recipe:
    return single(changed(stage, changes), held_out_rows=0)


def as_model(model: Path, trained: Path, out: Path) -> None:
    rlhf.train(short({**SFT, "model": str(model)}, **{"algorithm.steps": 1}), out=out)


def as_reward_model(model: Path, trained: Path, out: Path) -> None:
    recipe = {**PPO, "model": str(trained / "sft" / "model"), "reward_model": str(model)}
    rlhf.train(short(recipe, **{"algorithm.steps": 1, "rollout.max_tokens": 2}), out=out)


def as_reference(model: Path, trained: Path, out: Path) -> None:
    recipe = {**DPO, "model": str(trained / "sft" / "model"), "reference": str(model)}
    rlhf.train(short(recipe, **{"algorithm.steps": 1}), out=out)


def as_tokenizer_of_a_new_model(model: Path, trained: Path, out: Path) -> None:
    recipe = changed(SFT, {"algorithm.steps": 1, "model.new.tokenizer": {"path": str(model)}})
    rlhf.train(short(recipe), out=out)


def in_eval(model: Path, trained: Path, out: Path) -> None:
    evaluate_models({"model": model}, num_prompts=3, max_tokens=2)


def picking_in_eval(model: Path, trained: Path, out: Path) -> None:
    answers = AnswersConfig(model=str(trained / "sft" / "model"), best_of=2, reward_model=(str(model),))
    evaluate_models({"model": answers}, num_prompts=3, max_tokens=2)


USES: dict[str, Callable[[Path, Path, Path], None]] = {
    "model": as_model,
    "reward model": as_reward_model,
    "reference": as_reference,
    "tokenizer": as_tokenizer_of_a_new_model,
    "eval": in_eval,
    "eval reward model": picking_in_eval,
}


def test_the_payloads_are_live(marker: Path, tmp_path: Path) -> None:
    payloads.pickled(marker, tmp_path / "a.bin")
    torch.load(tmp_path / "a.bin", weights_only=False)
    assert marker.exists()
    marker.rmdir()
    payloads.bare_pickle(marker, tmp_path / "b")
    pickle.loads((tmp_path / "b").read_bytes())
    assert marker.exists()
    marker.rmdir()
    exec(payloads.python(marker), {})
    assert marker.exists()


@pytest.mark.parametrize("kind", payloads.REFUSED)
def test_a_hostile_model_is_refused_in_a_line(kind: str, trained: Path, marker: Path, tmp_path: Path) -> None:
    make, said = payloads.REFUSED[kind]
    model = hostile_copy(trained / "sft" / "model", tmp_path / "model", make, marker)
    with pytest.raises(UserError) as refusal:
        as_model(model, trained, tmp_path / "run")
    message = str(refusal.value)
    assert not marker.exists()
    assert said in message
    assert str(model) in message
    assert "\n" not in message
    assert "trust_remote_code" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["pickled weights", "adapter beside the weights", "code"])
def test_it_is_refused_wherever_a_model_is_named(
    kind: str, use: str, trained: Path, marker: Path, tmp_path: Path
) -> None:
    if kind == "code":  # of the part that this use takes
        kind = "code in tokenizer_config.json" if use == "tokenizer" else "code in config.json"
    make, said = payloads.REFUSED[kind]
    whole = trained / ("reward" if "reward" in use else "sft") / "model"
    model = hostile_copy(whole, tmp_path / "model", make, marker)
    with pytest.raises(UserError, match=said):
        USES[use](model, trained, tmp_path / "run")
    assert not marker.exists()


@pytest.mark.parametrize("use", ["model", "reward model", "eval"])
def test_stray_pickles_and_python_beside_a_model_are_left_alone(
    use: str, trained: Path, marker: Path, tmp_path: Path
) -> None:
    whole = trained / ("reward" if "reward" in use else "sft") / "model"
    model = hostile_copy(whole, tmp_path / "model", payloads.strays, marker)
    USES[use](model, trained, tmp_path / "run")
    assert not marker.exists()
    assert not list(tmp_path.rglob("escaped"))


def test_the_way_out_of_pickled_weights_works(trained: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(trained / "sft" / "model", old)
    state = AutoModelForCausalLM.from_pretrained(old).state_dict()
    payloads.without_safetensors(old)
    torch.save(state, old / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"from_pretrained\(OLD\).save_pretrained\(NEW\)"):
        as_model(old, trained, tmp_path / "run")
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("*.bin"))
    AutoModelForCausalLM.from_pretrained(old).save_pretrained(new)
    as_model(new, trained, tmp_path / "run")


PLUGIN = """
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


class ReadConfig(LlamaConfig):
    model_type = "read_by_me"


class ReadForCausalLM(LlamaForCausalLM):
    config_class = ReadConfig


AutoConfig.register("read_by_me", ReadConfig, exist_ok=True)
AutoModelForCausalLM.register(ReadConfig, ReadForCausalLM, exist_ok=True)
"""


def test_classes_that_somebody_has_read_come_from_a_plugin(trained: Path, marker: Path, tmp_path: Path) -> None:
    """The way out for a model with code of its own; what lies beside its weights still does not run."""

    def with_code(folder: Path, marker: Path) -> None:
        payloads.code_in_config(folder, marker)
        payloads.edit_json(folder / "config.json", model_type="read_by_me")

    model = hostile_copy(trained / "sft" / "model", tmp_path / "model", with_code, marker)
    recipe = short({**SFT, "model": str(model)}, **{"algorithm.steps": 1})
    with pytest.raises(UserError, match="register its classes in a plugin"):
        rlhf.train(recipe, out=tmp_path / "without")
    (tmp_path / "classes.py").write_text(PLUGIN)
    made = rlhf.train({**recipe, "plugins": {"paths": [str(tmp_path / "classes.py")]}}, out=tmp_path / "with")
    assert json.loads((made.model / "config.json").read_text())["model_type"] == "read_by_me"
    assert not marker.exists()


# --- chat templates ---------------------------------------------------------------------------------------------------


def test_a_chat_template_does_not_escape(trained: Path, marker: Path, tmp_path: Path) -> None:
    model = hostile_copy(trained / "sft" / "model", tmp_path / "model", payloads.template_that_escapes, marker)
    with pytest.raises(UserError, match="chat template refuses"):
        as_model(model, trained, tmp_path / "run")
    assert not marker.exists()


def test_a_chat_template_that_loops_is_broken_off(
    trained: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_LIMIT", RenderLimit(seconds=0.5))
    model = hostile_copy(trained / "sft" / "model", tmp_path / "model", payloads.template_that_loops, marker)
    with pytest.raises(UserError, match="may loop for ever"):
        as_model(model, trained, tmp_path / "run")


# --- folders of trained graders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("description", ['{"format": 1}', "[" * 100_000, "\0\xff"])
def test_a_hostile_grader_folder_is_refused(description: str, marker: Path, tmp_path: Path) -> None:
    (tmp_path / linear.DESCRIPTION).write_text(description)
    payloads.strays(tmp_path, marker)
    payloads.bare_pickle(marker, tmp_path / linear.WEIGHTS)
    with pytest.raises(ConfigError, match="cannot be read as a trained grader"):
        linear.load(tmp_path, "helpful_words", ("words",), 3)
    assert not marker.exists()


# --- checkpoints of a run ---------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(trained: Path, tmp_path: Path) -> Path:
    """The run as if it had been killed after the first of two steps of its last stage."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "summary.json").unlink()
    (run / "reward" / "summary.json").unlink()
    shutil.rmtree(run / "reward" / "model")
    return run


def resume(run: Path) -> None:
    rlhf.train(run / "recipe.yaml", out=run, resume=True)


def test_the_untouched_run_resumes(stopped: Path) -> None:
    resume(stopped)
    assert (stopped / "reward" / "model" / "model.safetensors").is_file()


def test_pickles_in_a_checkpoint_are_never_read(stopped: Path, marker: Path) -> None:
    checkpoint = stopped / "reward" / "checkpoints" / "step-1"
    for folder in [checkpoint, *(path for path in checkpoint.rglob("*") if path.is_dir())]:
        payloads.strays(folder, marker)
    resealed(checkpoint)  # a hostile folder is consistent in itself
    resume(stopped)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "engine-00000.pt", "a/engine-0.safetensors"])
def test_names_in_a_checkpoint_do_not_lead_outside(stopped: Path, name: str) -> None:
    checkpoint = stopped / "reward" / "checkpoints" / "step-1"
    header = next(checkpoint.rglob("engine.json"))
    shutil.copyfile(header.parent / "engine-00000.safetensors", header.parent.parent / "outside.safetensors")
    payloads.edit_json(header, files=[name])
    resealed(checkpoint)  # a hostile folder is consistent in itself
    with pytest.raises(RunError, match="cannot read the saved"):
        resume(stopped)


def test_a_pickle_in_the_place_of_tensors_is_not_unpickled(stopped: Path, marker: Path) -> None:
    checkpoint = stopped / "reward" / "checkpoints" / "step-1"
    payloads.pickled(marker, next(checkpoint.rglob("engine-00000.safetensors")))
    resealed(checkpoint)  # a hostile folder is consistent in itself
    with pytest.raises(RunError, match="cannot read the saved"):
        resume(stopped)
    assert not marker.exists()
