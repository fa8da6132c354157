"""`rlhf plan`, on models of which there is nothing but a configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaConfig

import rlhf
from rlhf.cli.exit_codes import BAD_INPUT, run_command
from rlhf.errors import ResourceError
from rlhf.planning.stage import Place
from rlhf.runtime.preflight import StageReport
from tests.tiny_runs import MODEL, pipeline


@pytest.fixture(scope="module")
def seven_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a Llama-2 7B, and no weights."""
    path = tmp_path_factory.mktemp("models") / "seven_b"
    LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
        max_position_embeddings=2048,
    ).save_pretrained(path)
    return path


@pytest.fixture
def plan(tmp_path: Path, seven_b: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """(exit code, standard output, standard error) of planning a small recipe with these words added."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
algorithm: {{type: sft, batch_size: 16, steps: 10}}
model: {seven_b}
data: {{type: pocket, num_demonstrations: 500, num_rankings: 100}}
engine: {{type: torch}}
runtime: {{type: inline}}
""",
        encoding="utf-8",
    )

    def run(words: str = "") -> tuple[int, str, str]:
        code = run_command(["plan", str(recipe), *shlex.split(words)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_large_model_is_refused_on_a_small_gpu_and_what_fits_is_proposed(
    plan: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = plan("--devices 1x24GB --json")
    told = json.loads(out)
    assert code == BAD_INPUT
    assert not told["fits"]
    assert err.count("\n") == 1
    assert "GB needed to" in err
    assert "each GPU has 24.0 GB" in err
    offered = told["stages"][0]["proposals"]
    assert offered
    assert all(proposal["needed"] <= 24e9 for proposal in offered)


def test_what_is_proposed_really_fits(plan: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = plan("--devices 1x24GB --json")
    usable = json.loads(out)["stages"][0]["proposals"]
    assert usable
    code, out, err = plan(f"--devices 1x24GB --json {' '.join(usable[0]['overrides'])}")
    assert (code, err) == (0, "")
    place = json.loads(out)["stages"][0]["places"][0]
    assert place["fits"]
    assert place["needed"] == pytest.approx(usable[0]["needed"], rel=0.02)


def test_the_page_is_readable_at_eighty_columns(
    plan: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = plan("--devices 1x240GB --peak-tflops 300")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for said in (
        "A step: 16 rows, one optimizer step.",
        "6.74B parameters",
        "Arithmetic:",
        "Time:",
        "fits",
        "settings",
    ):
        assert said in out


def test_each_setting_says_where_it_comes_from(plan: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = plan("--devices 1x160GB --json optimizer.lr=0.001")
    settings = json.loads(out)["settings"]
    assert settings["optimizer.lr"] == {"value": 0.001, "origin": "override"}
    assert settings["algorithm.batch_size"]["origin"] == "recipe"
    assert settings["model.path"]["origin"] == "recipe"
    assert settings["optimizer.eps"]["origin"] == "default"


def test_a_shipped_pipeline_names_its_defaults_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "quickstart", "--devices", "1x16GB", "--json", "ppo.algorithm.steps=3"]) == 0
    told = json.loads(capsys.readouterr().out)
    settings = told["settings"]
    assert settings["ppo.algorithm.steps"]["origin"] == "override"
    assert settings["sft.algorithm.steps"]["origin"] == "shipped recipe quickstart"
    assert settings["sft.data.type"]["origin"] == "defaults: of the shipped recipe quickstart"
    assert [stage["name"] for stage in told["stages"]] == ["sft", "reward", "ppo"]
    assert [role["role"] for role in told["stages"][2]["roles"]] == [
        "policy",
        "reference",
        "value",
        "reward",
        "rollout",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("model.max_length=4096", "model.max_length: 4096 is more than the context of .*, 2048 tokens; lower it"),
        ("model.lora.target_modules=[q_prj]", r"lora.target_modules \['q_prj'\]: .* has no such linear layers"),
        ("runtime.type=ray runtime.workers.policy.num=3", "torch is one process, and runtime.workers asks for 3"),
        (
            "runtime.type=ray engine.type=deepspeed runtime.workers.policy.num=64",
            "policy.num: 64 processes .* need as many GPUs, 2 GPUs of 160GB has 2; lower it",
        ),
    ],
)
def test_the_impossible_is_refused_in_one_line(
    plan: Callable[..., tuple[int, str, str]], words: str, line: str
) -> None:
    import re

    code, _, err = plan(f"--devices 2x160GB {words}")
    assert code == BAD_INPUT
    assert err.count("\n") == 1
    assert re.search(line, err)


def test_an_unknown_architecture_is_refused(plan: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "no_such_network"}', encoding="utf-8")
    code, _, err = plan(f"--devices 1x80GB model={tmp_path / 'odd'}")
    assert code == BAD_INPUT
    assert "no_such_network" in err
    assert err.count("\n") == 1


def test_devices_are_counted_and_sized(plan: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = plan("--devices eight")
    assert code == BAD_INPUT
    assert "as in 8x80GB" in err


def test_a_run_that_cannot_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    recipe = pipeline()
    recipe["stages"]["sft"]["model"] = {"new": MODEL | {"mlp_size": 10**11}}
    with pytest.raises(ResourceError, match=r"^stage sft: [\d,.]+ GB needed to .*, this machine has "):
        rlhf.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("needed", "is_sure"), [(90.0, False), (110.0, False), (120.0, True)])
def test_a_run_is_refused_only_beyond_what_a_plan_may_be_wrong_by(needed: float, is_sure: bool) -> None:
    place = Place("this machine", needed=needed, available=100.0, phase="train", parts=())
    refusals = () if place.fits else (place.words(),)
    assert StageReport("sft", places=(place,), refusals=refusals).cannot_run == is_sure
