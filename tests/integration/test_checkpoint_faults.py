"""What dies, fills up or rots between two steps costs the steps since the last good checkpoint and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError, RunError
from rlhf.plugins import load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.checkpoints import read_manifest
from rlhf.runtime.plan import plan_stage
from tests.integration.test_resume import command, interrupter, lines_of
from tests.tiny_runs import SFT, Recipe, assert_same_weights, changed, single

# Fails in a step, once: where the file is there, it has done so before.
FAILING = """
from pathlib import Path

from rlhf import hookimpl

done = Path({done!r})


@hookimpl
def on_step_end(step, metrics):
    if step == {step} and not done.exists():
        done.touch()
        raise RuntimeError("the machine is gone")
"""

# Fills the disk of the run after its first checkpoint, and empties it again after a later step.
FILLING = """
import os
import shutil
from pathlib import Path

from rlhf import hookimpl

filler = Path({filler!r})


@hookimpl
def on_checkpoint(step, path):
    if step == 1:
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(filler.parent).free - 100_000))


@hookimpl
def on_step_end(step, metrics):
    if step == {until}:
        filler.unlink()
    {more}
"""


def recipe(**keys: Any) -> Recipe:
    return changed(
        single(SFT), {"algorithm.steps": 6, "optimizer.schedule": "cosine", "held_out_rows": 0, "trackers": [], **keys}
    )


def failing_at(step: int, folder: Path, saving: dict[str, Any]) -> Recipe:
    file = folder / "failing.py"
    file.write_text(FAILING.format(done=str(folder / "done"), step=step))
    return recipe(checkpoint=saving, plugins={"paths": [str(file)]})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    return rlhf.train(recipe(checkpoint={"every": 2}), out=tmp_path_factory.mktemp("whole") / "run").folder


def failed_run(folder: Path, saving: dict[str, Any], step: int = 5) -> tuple[Recipe, Path]:
    """A run that has failed in a step."""
    failing, out = failing_at(step, folder, saving), folder / "run"
    with pytest.raises(RuntimeError, match="the machine is gone"):
        rlhf.train(failing, out=out)
    return failing, out


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


# --- rot --------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_the_last_good_checkpoint_and_says_so(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing, out = failed_run(tmp_path, {"every": 2})
    assert [row["step"] for row in lines_of(out)] == [1, 2, 3, 4, 5]
    flip(out / "checkpoints" / "step-4" / "policy" / "engine-00000.safetensors")
    capsys.readouterr()
    again = rlhf.train(failing, out=out, resume=True)
    lines = capsys.readouterr().err.splitlines()
    (told,) = [line for line in lines if "set aside" in line]
    assert told.startswith("checkpoint step-4: policy/engine-00000.safetensors: expected sha256 ")
    assert told.endswith("; set aside as step-4.set-aside, going on from step 2")
    assert "[sft] 6 steps, resumed after step 2" in lines
    assert_same_weights(again.model, whole / "model")
    assert lines_of(out) == lines_of(whole)
    assert read_manifest(out / "checkpoints" / "step-4").step == 4


def test_where_no_checkpoint_is_good_nothing_is_begun_again(tmp_path: Path) -> None:
    failing, out = failed_run(tmp_path, {"every": 2})
    (out / "checkpoints" / "step-2" / "run.json").unlink()
    os.truncate(out / "checkpoints" / "step-4" / "policy" / "engine.json", 0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"is good \(step-4: policy/engine\.json: .*; step-2: run\.json is m"):
        rlhf.train(failing, out=out, resume=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_another_runs_checkpoint_is_not_taken(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing, out = failed_run(tmp_path, {"every": 2, "keep": 3})
    other = rlhf.train(recipe(checkpoint={"every": 5}, seed=7), out=tmp_path / "other").folder
    shutil.copytree(other / "checkpoints" / "step-5", out / "checkpoints" / "step-5")
    again = rlhf.train(failing, out=out, resume=True)
    assert "checkpoint step-5: manifest.json is of another recipe: expected" in capsys.readouterr().err
    assert_same_weights(again.model, whole / "model")


def test_what_the_manifest_says_of_a_real_run(whole: Path) -> None:
    manifest = read_manifest(whole / "checkpoints" / "step-4")
    assert (manifest.origin.run, manifest.origin.stage) == ("tiny", "sft")
    assert (manifest.world_size, manifest.dtype, manifest.engine) == (
        {"policy": 1},
        {"policy": "float32"},
        {"policy": "torch"},
    )
    assert manifest.metrics["policy/loss"] == lines_of(whole)[3]["policy/loss"]
    assert set(manifest.files) == {"run.json", "policy/engine.json", "policy/engine-00000.safetensors"}


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 6 MB; needs the right to mount."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {made.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)  # a model that failed may still be mapped


def filling(folder: Path, disk: Path, until: int, more: str = "", **saving: Any) -> Recipe:
    file = folder / "filling.py"
    file.write_text(FILLING.format(filler=str(disk / "filler"), until=until, more=more or "pass"))
    return recipe(checkpoint={"every": 1, "keep": 1, **saving}, plugins={"paths": [str(file)]})


def test_a_full_disk_is_an_alarm_and_the_run_goes_on(
    disk: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rlhf.train(filling(tmp_path, disk, until=4), out=disk / "run")
    alarms = [line for line in capsys.readouterr().err.splitlines() if "ALARM" in line]
    assert [line.partition(" could not")[0] for line in alarms] == [
        "[sft] ALARM: checkpoint of step 2",
        "[sft] ALARM: checkpoint of step 3",
    ]
    assert all("the last good one is step 1; the run goes on" in line for line in alarms)
    assert [row["checkpoint/failed"] for row in run.metrics] == [0, 0, 1, 2, 0, 0]  # what failed before each step
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-5"]
    assert_same_weights(run.model, whole / "model")


def test_a_disk_that_stays_full_ends_the_run(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"checkpoint of step 3 .*the last good one is step 1; 2 in a row have failed"):
        rlhf.train(filling(tmp_path, disk, until=99, max_failures=1), out=disk / "run")
    assert [path.name for path in (disk / "run" / "checkpoints").iterdir()] == ["step-1"]


def test_a_run_that_is_stopped_and_cannot_save_says_what_is_left(disk: Path, tmp_path: Path) -> None:
    interrupting = "import signal; step == 2 and os.kill(os.getpid(), signal.SIGTERM)"
    stopped = filling(tmp_path, disk, until=99, more=interrupting)
    ended = command(stopped, disk)
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("failed: stopped after step 2 as asked, but the checkpoint of step 2 could")
    assert last.endswith("the last good one is step 1")


# --- saving by time, and keeping the best ---------------------------------------------------------------------------


def test_saving_by_minutes_needs_no_steps(tmp_path: Path) -> None:
    run = rlhf.train(recipe(checkpoint={"every_minutes": 1e-9, "keep": 9}), out=tmp_path / "run")
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == [f"step-{n}" for n in range(1, 6)]
    assert [row["time/save"] > 0 for row in run.metrics] == [False] + [True] * 5


def test_the_best_checkpoint_by_a_metric_stays(tmp_path: Path) -> None:
    best = {"metric": "policy/lr", "mode": "min"}  # falls with the steps but for the first, under warm-up
    saving = {"every": 1, "keep": 1, "keep_best": best}
    run = rlhf.train(recipe(checkpoint=saving, **{"optimizer.warmup": 0.5}), out=tmp_path / "run")
    rates = {row["step"]: row["policy/lr"] for row in run.metrics[:-1]}
    lowest = min(rates, key=lambda step: rates[step])
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == [f"step-{lowest}", "step-5"]


def test_a_best_by_no_figure_is_refused_when_the_first_step_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"this stage logs no 'policy/los'\. Did you mean 'policy/loss'"):
        rlhf.train(recipe(checkpoint={"keep_best": {"metric": "policy/los"}}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- another machine --------------------------------------------------------------------------------------------------


def test_a_run_goes_on_on_an_empty_machine(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing, out = failed_run(tmp_path, {"every": 2, "upload": f"file://{tmp_path}/bucket"})
    shutil.rmtree(out)
    capsys.readouterr()
    again = rlhf.train(failing, out=tmp_path / "elsewhere", resume=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith(f"fetching step-4 from file://{tmp_path}/bucket/tiny/sft")
    assert "[sft] 6 steps, resumed after step 4" in lines
    assert_same_weights(again.model, whole / "model")
    assert lines_of(again.folder) == lines_of(whole)


def test_without_uploads_an_empty_machine_has_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume: .* holds no run \(no recipe\.yaml\)"):
        rlhf.train(recipe(), out=tmp_path / "run", resume=True)


def test_an_upload_to_another_runs_place_is_refused_before_the_first_step(tmp_path: Path) -> None:
    saving = {"every": 2, "upload": f"file://{tmp_path}/bucket"}
    rlhf.train(recipe(checkpoint=saving), out=tmp_path / "one")
    with pytest.raises(ConfigError, match="holds checkpoints of another recipe"):
        rlhf.train(recipe(checkpoint=saving, seed=1), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_stopped_run_waits_for_its_upload(tmp_path: Path) -> None:
    saving = {"upload": f"file://{tmp_path}/bucket"}
    stopped = recipe(checkpoint=saving, plugins={"paths": [interrupter(tmp_path, step=2)]})
    ended = command(stopped, tmp_path)
    assert ended.returncode == 130, ended.stderr
    assert f"step-2 is uploaded to file://{tmp_path}/bucket/" in ended.stderr
    (manifest,) = (tmp_path / "bucket").rglob("manifest.json")
    assert manifest.read_bytes() == (tmp_path / "run" / "checkpoints" / "step-2" / "manifest.json").read_bytes()


def test_a_checkpoint_belongs_to_what_is_computed_and_not_to_where(whole: Path) -> None:
    manifest = read_manifest(whole / "checkpoints" / "step-4")

    def plan_of(**keys: Any) -> Any:
        loaded = load_recipe(recipe(**keys))
        return plan_stage(loaded, "sft", load_plugins(loaded.plugins), Path("runs/x"))

    # Where it runs and how often it saves is not which run it is; what it computes is.
    workers = {"runtime": {"type": "ray", "workers": {"policy": {"num": 2}}}, "engine": {"type": "deepspeed"}}
    same = [plan_of(), plan_of(**workers), plan_of(checkpoint={"keep": 9})]
    assert {plan.identity for plan in same} == {manifest.origin.recipe}
    assert plan_of(seed=1).identity != plan_of(**{"optimizer.lr": 1e-3}).identity != manifest.origin.recipe
