"""The one-file plugins of a run: kept in its folder, resumed from anywhere, and edits are noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rlhf
from rlhf.errors import ConfigError
from rlhf.recipe import Recipe, load_recipe
from rlhf.runtime.plugin_copies import keep_plugin_files, require_same_plugin_files
from rlhf.runtime.submission import _pack
from tests.tiny_runs import GRPO, MODEL, changed, single

CODE = """
import os, signal
from pathlib import Path
from rlhf import hookimpl

def short(completions):
    return [-float(len(text)) for text in completions]

@hookimpl
def on_step_end(step, metrics):
    done = Path({done!r})
    if not done.exists():
        done.touch()
        os.kill(os.getpid(), signal.SIGINT)
"""
EDITED = CODE.replace("-float", "float").format(done="done")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe and its reward, which interrupts its run after the first step, once."""
    folder = tmp_path / "work"
    folder.mkdir()
    stage = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": "my_reward.py:short"}
    recipe = changed(single(stage), {"algorithm.steps": 2, "held_out_rows": 0})
    (folder / "my.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (folder / "my_reward.py").write_text(CODE.format(done=str(tmp_path / "done")))
    monkeypatch.chdir(folder)
    return folder


def train(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlhf", "train", *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=200, env=environment)


def test_a_run_is_resumed_from_another_folder_with_its_own_copy(work: Path, tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    stopped = train("my.yaml", "--out", str(run), cwd=work)
    assert stopped.returncode == 130, stopped.stderr
    (work / "my_reward.py").write_text(EDITED)
    elsewhere.mkdir()
    with pytest.raises(ConfigError) as refused:
        rlhf.train(work / "my.yaml", out=run, resume=True)
    assert f"--resume: {work}/my_reward.py differs from {run}/plugins/my_reward.py, which the run was begun" in str(
        refused.value
    )
    assert str(refused.value).endswith(f"cp {work}/my_reward.py {run}/plugins/my_reward.py first")

    run.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    resumed = train(str(moved / "recipe.yaml"), "--resume", "--out", str(moved), cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{work}/my_reward.py has changed since the run began; it goes on with its own copy" in resumed.stderr
    rewards = [json.loads(line)["reward/mean"] for line in (moved / "metrics.jsonl").read_text().splitlines()]
    assert len(rewards) == 2
    assert max(rewards) <= 0


# --- without a run ---------------------------------------------------------------------------------------------------


def kept(recipe: Recipe, run: Path) -> list[str]:
    run.mkdir(exist_ok=True)
    saved, notes = keep_plugin_files(recipe, run)
    (run / "recipe.yaml").write_text(saved.as_yaml())
    return notes


def record(run: Path) -> dict[str, object]:
    entry: dict[str, object] = json.loads((run / "plugins" / "files.json").read_text())["my_reward.py"]
    return entry


def test_the_saved_recipe_names_the_copy_and_has_the_same_hash(work: Path, tmp_path: Path) -> None:
    recipe = load_recipe("my.yaml")
    assert kept(recipe, tmp_path / "run") == []
    saved = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert saved.plugins.paths == (f"{tmp_path}/run/plugins/my_reward.py:short",)
    assert saved.digest == recipe.digest
    assert record(tmp_path / "run")["from"] == str(work / "my_reward.py")
    require_same_plugin_files(recipe, tmp_path / "run")
    require_same_plugin_files(saved, tmp_path / "run")


def test_an_edited_copy_is_gone_on_with_and_noted(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    kept(load_recipe("my.yaml"), run)
    (run / "plugins" / "my_reward.py").write_text(EDITED)
    with pytest.raises(ConfigError, match=r"my_reward\.py differs from"):
        require_same_plugin_files(load_recipe("my.yaml"), run)
    saved = load_recipe(run / "recipe.yaml")
    require_same_plugin_files(saved, run)
    assert kept(saved, run) == [
        f"{run}/plugins/my_reward.py has changed since the run began; it goes on with what the file is now"
    ]
    assert (run / "plugins" / "my_reward.py").read_text() == EDITED
    assert len(record(run)["sha256"]) == 2  # type: ignore[arg-type]
    assert kept(load_recipe(run / "recipe.yaml"), run) == [
        f"{work}/my_reward.py has changed since the run began; it goes on with its own copy, {run}/plugins/my_reward.py"
    ]


def test_the_script_that_trains_may_have_changed(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the least it now says `resume=True`."""
    recipe, run = load_recipe("my.yaml"), tmp_path / "run"
    kept(recipe, run)
    (work / "my_reward.py").write_text(EDITED)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(work / "my_reward.py"), raising=False)
    require_same_plugin_files(recipe, run)
    assert kept(recipe, run) == ["my_reward.py has changed since the run began; it goes on with what the file is now"]
    assert (run / "plugins" / "my_reward.py").read_text() == EDITED


def test_a_run_without_plugin_files_has_no_folder_for_them(tmp_path: Path) -> None:
    recipe = load_recipe(single({**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": "num_tokens"}))
    assert kept(recipe, tmp_path / "run") == []
    assert not (tmp_path / "run" / "plugins").exists()


def test_the_copies_are_sent_to_a_cluster(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(load_recipe("my.yaml"), tmp_path / "run")
    (work / "my_reward.py").unlink()
    monkeypatch.chdir(tmp_path)
    _pack(load_recipe("run/recipe.yaml"), tmp_path / "sent")
    sent = load_recipe(tmp_path / "sent" / "recipe.yaml")
    assert sent.plugins.paths == (f"{tmp_path}/sent/my_reward.py:short",)
    assert (tmp_path / "sent" / "my_reward.py").is_file()
