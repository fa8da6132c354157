"""A run that was interrupted and taken up ends with the same weights, bit for bit, as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import rlhf
from rlhf.errors import RunError
from tests.tiny_runs import DATA, PPO, REWARD, SFT, Recipe, assert_same_weights, changed, pipeline, single

# Sends itself a signal at the end of a step, once: where the file is there, it has done so before.
EVERY = pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="with RLHF_TEST_EVERY_METHOD=1")
INTERRUPTER = """
import os
from pathlib import Path

from rlhf import hookimpl

done = Path({done!r})


@hookimpl
def on_step_end(step, metrics):
    if step == {step} and not done.exists():
        done.touch()
        os.kill({target}, {number})
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy and a reward model to start from."""
    recipe = pipeline()
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("models") / "run").folder


def stage(name: str, models: Path) -> Recipe:
    recipe = {
        "sft": {**SFT, "algorithm": {"type": "sft", "steps": 6, "batch_size": 8}},
        "reward": {**REWARD, "model": str(models / "sft" / "model")},
        "ppo": {
            **PPO,
            "model": str(models / "sft" / "model"),
            "reward_model": str(models / "reward" / "model"),
            "algorithm": {**PPO["algorithm"], "steps": 4, "kl_target": 0.01, "kl_horizon": 100},
        },
    }[name]
    # A schedule, so that a resumed run that forgot its step would be seen; texts of several pieces are in `mixture`.
    recipe = changed(recipe, {"optimizer.schedule": "cosine", "optimizer.warmup": 0.3})
    return single(recipe)


def command(recipe: Recipe, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return subprocess.run(
        [sys.executable, "-m", "rlhf", "train", str(path), "--out", str(folder / "run"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )


def interrupter(folder: Path, step: int, number: int = signal.SIGINT, *, whole_group: bool = False) -> str:
    """A plugin that signals its process after a step, or the whole process group, as a scheduler does."""
    file = folder / "interrupter.py"
    target = "0" if whole_group else "os.getpid()"
    file.write_text(INTERRUPTER.format(done=str(folder / "done"), step=step, number=int(number), target=target))
    return str(file)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time")} for row in rows]


@pytest.mark.parametrize("name", ["sft", pytest.param("reward", marks=EVERY), "ppo"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(name: str, models: Path, tmp_path: Path) -> None:
    whole = rlhf.train(stage(name, models), out=tmp_path / "whole")
    recipe = {**stage(name, models), "plugins": {"paths": [interrupter(tmp_path, step=2)]}}

    stopped = command(recipe, tmp_path)
    assert stopped.returncode == 130, stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith(f"interrupted: stopped after step 2 of stage {recipe['algorithm']['type']!r}; saved in ")
    assert last.endswith(
        f"continue with: rlhf train {tmp_path / 'run' / 'recipe.yaml'} --resume --out {tmp_path / 'run'}"
    )
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "summary.json").exists()

    resumed = command(recipe, tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(whole.model, tmp_path / "run" / "model")
    assert lines_of(tmp_path / "run") == lines_of(whole.folder)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stages"][0]["held_out"]["after"] == whole.summary["stages"][0]["held_out"]["after"]
    if name == "ppo":
        samples = [(folder / "samples.jsonl").read_text() for folder in (tmp_path / "run", whole.folder)]
        assert samples[0] == samples[1]


def test_a_terminated_run_says_so_by_its_exit_code(models: Path, tmp_path: Path) -> None:
    recipe = {**stage("sft", models), "plugins": {"paths": [interrupter(tmp_path, 3, signal.SIGTERM)]}}
    stopped = command(recipe, tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-3" / "manifest.json").is_file()


def test_a_pipeline_resumes_in_the_stage_it_was_in(tmp_path: Path) -> None:
    whole = rlhf.train(pipeline(), out=tmp_path / "whole")
    stopper = Path(interrupter(tmp_path, 2))
    stopper.write_text(stopper.read_text().replace("step == 2", "step == 2 and 'reward/accuracy' in metrics"))
    recipe = {**pipeline(), "plugins": {"paths": [str(stopper)]}}
    stopped = command(recipe, tmp_path)
    assert stopped.returncode == 130
    assert "of stage 'reward'" in stopped.stderr
    resumed = command(recipe, tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "stage sft: done before (4 steps)" in resumed.stderr
    for name in ("sft", "reward", "ppo"):
        assert_same_weights(whole.folder / name / "model", tmp_path / "run" / name / "model")


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(models: Path, tmp_path: Path) -> None:
    """`kill -9` leaves no time to save; what `checkpoint.every` saved counts."""
    recipe = {**stage("sft", models), "checkpoint": {"every": 2, "keep": 1}}
    whole = rlhf.train(recipe, out=tmp_path / "whole")
    assert [p.name for p in (whole.folder / "checkpoints").iterdir()] == ["step-4"]
    killed = {**recipe, "plugins": {"paths": [interrupter(tmp_path, 5, signal.SIGKILL)]}}
    assert command(killed, tmp_path).returncode == -signal.SIGKILL
    assert [row["step"] for row in lines_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    resumed = command(killed, tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(whole.model, tmp_path / "run" / "model")
    assert lines_of(tmp_path / "run") == lines_of(whole.folder)


def test_the_only_checkpoint_damaged_is_refused_by_name(models: Path, tmp_path: Path) -> None:
    recipe = {**stage("sft", models), "plugins": {"paths": [interrupter(tmp_path, 2)]}}
    assert command(recipe, tmp_path).returncode == 130
    (file,) = (tmp_path / "run" / "checkpoints" / "step-2" / "policy").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=rf"is good \(step-2: policy/{file.name}: expected sha256"):
        rlhf.train(tmp_path / "recipe.yaml", out=tmp_path / "run", resume=True)


def test_continued_pretraining_with_replay_resumes_in_the_midst_of_a_document(models: Path, tmp_path: Path) -> None:
    texts = [{"text": " ".join(f"stone river {n} cloud" for n in range(start, start + 60))} for start in range(12)]
    mixture = {
        "type": "mixture",
        "sources": [
            {"type": "rows", "rows": texts, "share": 2},
            {"type": "rows", "rows": [{"text": "hello " * 20}] * 4, "share": 1},
        ],
    }
    recipe = single(
        {
            "algorithm": {"type": "pretrain", "steps": 5, "batch_size": 3},
            "model": str(models / "sft" / "model"),
            "optimizer": {"lr": 1e-3},
            "data": mixture,
            "held_out_rows": 0,
        }
    )
    whole = rlhf.train(recipe, out=tmp_path / "whole")
    losses = [row["policy/loss"] for row in lines_of(whole.folder)]
    assert losses[-1] < losses[0]
    stopped = {**recipe, "plugins": {"paths": [interrupter(tmp_path, step=2)]}}
    assert command(stopped, tmp_path).returncode == 130
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-2" / "run.json").read_text())
    assert state["position"]["row"] > 0, "the test means to stop between two pieces of a document"
    assert command(stopped, tmp_path, "--resume").returncode == 0
    assert_same_weights(whole.model, tmp_path / "run" / "model")


def test_the_plugin_that_interrupts_is_not_what_makes_the_weights_equal(models: Path, tmp_path: Path) -> None:
    """A control: fewer rows of the same data end in other weights."""
    one, other = (
        rlhf.train({**stage("sft", models), "data": {**DATA, "num_demonstrations": n}}, out=tmp_path / str(n))
        for n in (240, 239)
    )
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same_weights(one.model, other.model)
