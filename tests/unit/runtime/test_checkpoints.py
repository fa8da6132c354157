"""Checkpoints are complete or absent, whatever happens while they are written, and a full disk costs nothing saved."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rlhf.engines.checkpoints import write_state
from rlhf.errors import RunError, WorkerDied
from rlhf.runtime.checkpoints import (
    WRITE_FAILURES,
    Saves,
    package_versions,
    publish,
    read_manifest,
    read_state,
    verify,
    write_whole,
)
from rlhf.runtime.ranks import Ranks as OneRank
from tests.unit.runtime.saved_checkpoints import ORIGIN, Scene, state, writes


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "checkpoints")


def test_a_saved_step_holds_its_files_its_state_and_a_manifest_of_both(scene: Scene) -> None:
    path = scene.save(3, metrics={"reward/mean": 0.5, "policy/kl": float("nan")})
    assert path.name == "step-3"
    assert read_state(path) == state(3)
    manifest = read_manifest(path)
    assert set(manifest.files) == {"policy/engine.json", "policy/weights.bin", "run.json"}
    assert manifest.files["policy/weights.bin"].bytes == len("step 3")
    assert scene.checkpoints.newest_good() == path


def test_the_manifest_says_what_wrote_it(scene: Scene) -> None:
    manifest = read_manifest(scene.save(3, metrics={"reward/mean": 0.5, "policy/kl": float("nan")}))
    assert (manifest.step, manifest.origin) == (3, ORIGIN)
    assert manifest.world_size == {"policy": 1}
    assert manifest.engine == {"policy": "torch"}
    assert manifest.dtype == {"policy": "float32"}
    assert manifest.versions == package_versions()
    assert manifest.versions.keys() >= {"python", "rlhf", "torch", "transformers"}
    assert manifest.metrics == {"reward/mean": 0.5}


def test_an_engine_says_its_name_and_its_arithmetic(tmp_path: Path) -> None:
    write_state(
        tmp_path, iter([]), role="policy", steps=2, skipped=0, engine="deepspeed, zero_stage 2", dtype=torch.bfloat16
    )
    header = json.loads((tmp_path / "engine.json").read_text())
    assert (header["engine"], header["dtype"]) == ("deepspeed, zero_stage 2", "bfloat16")


def test_the_newest_step_is_the_highest_number_and_not_the_last_in_the_alphabet(tmp_path: Path) -> None:
    scene = Scene(tmp_path, keep=5)
    for step in (2, 9, 10):
        scene.save(step)
    assert scene.checkpoints.steps() == [2, 9, 10]
    assert scene.checkpoints.newest_good() == tmp_path / "step-10"


def test_no_folder_no_checkpoint(scene: Scene) -> None:
    assert scene.checkpoints.steps() == []
    assert scene.checkpoints.newest_good() is None


def test_saving_a_step_again_replaces_it(scene: Scene) -> None:
    scene.save(1, writes("old"))
    path = scene.save(1, writes("new"))
    assert (path / "policy" / "weights.bin").read_text() == "new"
    verify(path)
    assert scene.names() == ["step-1"]


def test_what_a_killed_save_left_is_removed_on_the_next_start(scene: Scene) -> None:
    path = scene.save(1)
    shutil.copytree(path, scene.folder / "step-2.tmp")  # all of it is there but its name
    shutil.copytree(path, scene.folder / "step-1.old.tmp")
    assert scene.checkpoints.newest_good() == path
    assert scene.names() == ["step-1"]


# --- in which order ---------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is forced to disk and of what is renamed, in order; both are done, too."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def noted_rename(self: Path, target: Any) -> Path:
        done.append(f"{self.name} -> {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to know files by their handles")
def test_all_is_on_disk_before_the_name_and_old_ones_go_last(tmp_path: Path, calls: list[str]) -> None:
    scene = Scene(tmp_path / "checkpoints", keep=1)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    scene.save(1)
    calls.clear()
    scene.save(2)
    named = calls.index("step-2.tmp -> step-2")
    before, after = calls[:named], calls[named + 1 :]
    files = {"sync weights.bin", "sync engine.json", "sync run.json", "sync manifest.json"}
    assert files | {"sync policy", "sync step-2.tmp", "sync metrics.jsonl"} <= set(before)
    assert before.index("sync manifest.json") > max(before.index(f) for f in files - {"sync manifest.json"})
    assert before.index("sync step-2.tmp") > before.index("sync manifest.json")
    assert after == ["sync checkpoints", "step-1 -> step-1.old.tmp"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to know files by their handles")
def test_a_written_file_is_on_disk_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    write_whole(tmp_path / "recipe.yaml", "seed: 1\n")
    assert calls == ["sync recipe.yaml.tmp", f"sync {tmp_path.name}"]
    assert (tmp_path / "recipe.yaml").read_text() == "seed: 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "recipe.yaml", "seed: 1\n")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "recipe.yaml", "seed: 2\n")
    assert (tmp_path / "recipe.yaml").read_text() == "seed: 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_folder_takes_the_place_of_another_of_its_name(tmp_path: Path) -> None:
    for name in ("model", "model.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    publish(tmp_path / "model.tmp", tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "model.tmp"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# --- a disk that is full ---------------------------------------------------------------------------------------------


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space(folder: Path) -> None:
    (folder / "policy").mkdir()
    full(0)


def no_space_in_a_worker(folder: Path) -> None:
    raise RunError("policy worker 0 failed: OSError: [Errno 28] No space left on device")


@pytest.mark.parametrize("write", [no_space, no_space_in_a_worker])
def test_a_full_disk_is_said_and_leaves_the_last_good_checkpoint(scene: Scene, write: Callable[[Path], None]) -> None:
    scene.save(1)
    with pytest.raises(RunError, match=r"checkpoint of step 2 .*No space left.*last good one is step 1"):
        scene.save(2, write)
    assert scene.names() == ["step-1"]
    assert scene.checkpoints.newest_good() == scene.folder / "step-1"


def test_a_full_disk_before_any_checkpoint_is_said_too(scene: Scene) -> None:
    with pytest.raises(RunError, match="there is no earlier one"):
        scene.save(1, no_space)


def test_a_disk_that_is_full_only_for_the_manifest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.save(1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="last good one is step 1"):
        scene.save(2)
    assert scene.names() == ["step-1"]


def test_a_file_that_does_not_reach_the_disk_spoils_the_checkpoint(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash is right: it is read from memory."""
    scene.save(1)
    monkeypatch.setattr("rlhf.runtime.checkpoints.manifest.sync_file", lambda path: path.suffix == ".bin" and full(0))
    with pytest.raises(RunError, match=r"step 2 .*No space left.*last good one is step 1"):
        scene.save(2)
    assert scene.names() == ["step-1"]


def test_room_is_asked_for_before_anything_is_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = read_manifest(scene.save(1)).total_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, needed - 1))
    with pytest.raises(RunError, match=rf"step 2 .*needs {needed} bytes, .*the disk has {needed - 1}"):
        scene.save(2, lambda _: pytest.fail("must not be asked to write"))
    assert scene.names() == ["step-1"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))  # tells nothing
    scene.save(3)


def test_a_worker_that_died_while_saving_is_the_root_cause(scene: Scene) -> None:
    def die(_: Path) -> None:
        raise WorkerDied("policy worker 0 died: killed")

    with pytest.raises(WorkerDied, match="policy worker 0 died"):
        scene.save(1, die)
    assert scene.names() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB; needs the right to mount."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {made.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_really_full_disk_under_safetensors(small_disk: Path) -> None:
    scene = Scene(small_disk / "checkpoints")

    def tensors(count: int) -> Callable[[Path], None]:
        return lambda folder: save_file({"w": torch.ones(count)}, folder / "w.safetensors")

    scene.save(1, tensors(25_000))  # 100 kB
    with pytest.raises(RunError, match=r"(?i)step 2 .*no space left.*last good one is step 1"):
        scene.save(2, tensors(50_000))
    assert scene.names() == ["step-1"]
    scene.save(3, tensors(25_000))
    assert scene.checkpoints.steps() == [1, 3]


def test_an_engine_on_a_full_disk_raises_what_its_other_processes_are_told_of(small_disk: Path) -> None:
    """safetensors has an error of its own, which is no OSError; DeepSpeed's first process would leave the others."""
    tensors = iter([("weight.w", torch.ones(100_000))])
    with pytest.raises(OSError, match=r"(?i)engine-00000\.safetensors: .*no space left"):
        write_state(small_disk, tensors, role="policy", steps=1, skipped=0, engine="torch", dtype=torch.float32)


# --- failures in a row ------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def saves_of(scene: Scene, clock: Clock | None = None, ranks: Any | None = None) -> Saves:
    return Saves(scene.checkpoints, ranks or OneRank(), scene.notes.append, clock or Clock())


def attempt(saves: Saves, step: int, write: Callable[[Path], None], *, leaving: bool = False) -> Path | None:
    return saves.save(step, write, state(step), {}, leaving=leaving)


def test_the_run_goes_on_with_an_alarm_until_too_many_in_a_row_have_failed(tmp_path: Path) -> None:
    scene = Scene(tmp_path, every=1, max_failures=2)
    saves = saves_of(scene)
    assert attempt(saves, 1, writes("good")) == tmp_path / "step-1"
    for step, failed in ((2, 1.0), (3, 2.0)):
        assert attempt(saves, step, no_space) is None
        assert scene.notes[-1].startswith(f"ALARM: checkpoint of step {step} could not be written to ")
        assert scene.notes[-1].endswith(f"survives 2 of these in a row ({failed:.0f} so far)")
        assert saves.metrics()["checkpoint/failed"] == failed
    assert attempt(saves, 4, writes("good")) is not None
    assert saves.metrics()["checkpoint/failed"] == 0
    for step in (5, 6):
        assert attempt(saves, step, no_space) is None
    with pytest.raises(RunError, match=r"step 7 .*No space left.*is step 4; 3 in a row have failed"):
        attempt(saves, 7, no_space)


def test_with_no_patience_the_first_failure_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 1 .*there is no earlier one$"):
        attempt(saves_of(Scene(tmp_path, every=1, max_failures=0)), 1, no_space)


def test_who_leaves_is_told_that_the_save_failed_and_what_is_left(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    saves = saves_of(scene)
    attempt(saves, 1, writes("good"))
    with pytest.raises(RunError, match=r"^stopped after step 2 as asked, but the checkpoint .*good one is step 1"):
        attempt(saves, 2, no_space, leaving=True)


def test_a_run_that_never_saves_by_itself_logs_nothing_of_it(tmp_path: Path) -> None:
    assert saves_of(Scene(tmp_path)).metrics() == {}


# --- when -------------------------------------------------------------------------------------------------------------


def test_saves_are_due_by_steps_and_by_minutes(tmp_path: Path) -> None:
    clock = Clock()
    saves = saves_of(Scene(tmp_path, every=10, every_minutes=5), clock)
    assert [step for step in range(1, 31) if saves.due(step)] == [10, 20, 30]
    clock.now = 299.0
    assert not saves.due(3)
    clock.now = 301.0
    assert saves.due(3)
    attempt(saves, 3, writes("good"))
    assert not saves.due(4)
    clock.now = 610.0
    assert saves.due(4)
    attempt(saves, 4, no_space)
    assert not saves.due(5)  # a full disk is not tried again at every step


def test_by_minutes_the_leading_ranks_clock_decides(tmp_path: Path) -> None:
    told = Ranks(rank=1, told=[1, 0])
    saves = saves_of(Scene(tmp_path, every_minutes=5), Clock(), told)
    assert (saves.due(1), saves.due(2)) == (True, False)


# --- several processes ------------------------------------------------------------------------------------------------


@dataclass
class Ranks:
    """One of several; `told` is what the leading one says, in order (itself, where that is empty)."""

    rank: int = 0
    told: list[int] = field(default_factory=list)
    met: list[str] = field(default_factory=list)

    def barrier(self) -> None:
        self.met.append("barrier")

    def agree(self, number: int) -> int:
        self.met.append("agree")
        return self.told.pop(0) if self.told else number


def test_followers_write_their_share_and_leave_the_rest_to_the_leader(tmp_path: Path) -> None:
    ranks = Ranks(rank=1)
    scene = Scene(tmp_path, ranks=ranks)
    (tmp_path / "step-1.tmp").mkdir()
    scene.save(1, writes("mine"))
    assert ranks.met == ["agree", "barrier", "agree"]
    assert (tmp_path / "step-1.tmp" / "policy").is_dir()
    assert not (tmp_path / "step-1").exists()


@pytest.mark.parametrize(("write", "broken"), [(no_space, None), (writes("good"), "os.fsync"), (writes("good"), None)])
def test_a_leader_that_fails_meets_the_others_as_often_as_one_that_does_not(
    tmp_path: Path, write: Callable[[Path], None], broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they would wait for it for ever."""
    ranks = Ranks()
    scene = Scene(tmp_path, ranks=ranks)
    if broken:
        monkeypatch.setattr(broken, full)
    try:
        scene.save(1, write)
    except WRITE_FAILURES:
        assert scene.names() == []
    assert ranks.met == ["agree", "barrier", "agree"]


def test_followers_of_a_leader_that_failed_raise_as_it_does(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ranks=Ranks(rank=1, told=[1, 0]))
    (tmp_path / "step-1.tmp").mkdir()
    with pytest.raises(RunError, match="see the first process"):
        scene.save(1)
    scene = Scene(tmp_path, ranks=Ranks(rank=1, told=[0]))
    with pytest.raises(RunError, match="see the first process"):
        scene.save(1, lambda _: pytest.fail("there is no room to write in"))


def test_a_share_that_a_follower_could_not_write_is_not_sealed_without_it(tmp_path: Path) -> None:
    ranks = Ranks(rank=1)
    ranks.barrier = lambda: ranks.met.append("gone" if not (tmp_path / "step-1.tmp").exists() else "still there")
    leader, follower = Scene(tmp_path, ranks=Ranks()), Scene(tmp_path, ranks=ranks)

    def write_with_a_follower_that_fails(folder: Path) -> None:
        writes("good")(folder)
        with pytest.raises(RunError, match="No space"):
            follower.save(1, lambda _: full(0))

    with pytest.raises(RunError, match="step 1 could not be written"):
        leader.save(1, write_with_a_follower_that_fails)
    assert ranks.met == ["agree", "gone", "agree"]  # before the leading one may go on
    assert leader.names() == []


def test_followers_take_the_step_the_leader_has_found(tmp_path: Path) -> None:
    Scene(tmp_path).save(4)
    assert Scene(tmp_path, ranks=Ranks(rank=1, told=[4])).checkpoints.newest_good() == tmp_path / "step-4"
    assert Scene(tmp_path, ranks=Ranks(rank=1, told=[0])).checkpoints.newest_good() is None
    with pytest.raises(RunError, match="see the first process"):
        Scene(tmp_path, ranks=Ranks(rank=1, told=[-1])).checkpoints.newest_good()
