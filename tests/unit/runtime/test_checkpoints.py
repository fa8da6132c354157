"""Checkpoints are complete or absent, a damaged file is named, and a full disk costs nothing that was saved."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rlhf.errors import RunError, WorkerDied
from rlhf.runtime.checkpoints import Checkpoints, read_state, verify


def no_barrier() -> None:
    """One process waits for nobody."""


def writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "policy").mkdir()
        (folder / "policy" / "weights.bin").write_text(text)

    return write


def save(checkpoints: Checkpoints, step: int, write: Callable[[Path], None] | None = None) -> Path:
    return checkpoints.save(step, write or writes(f"step {step}"), {"step": step}, leads=True, barrier=no_barrier)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def test_a_saved_step_holds_its_files_its_state_and_a_manifest_of_both(checkpoints: Checkpoints) -> None:
    path = save(checkpoints, 3)
    assert path.name == "step-3"
    assert read_state(path) == {"step": 3}
    assert set(json.loads((path / "manifest.json").read_text())) == {"policy/weights.bin", "run.json"}
    assert checkpoints.latest() == path


def test_the_latest_step_is_the_highest_number_and_not_the_last_in_the_alphabet(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in (2, 9, 10):
        save(checkpoints, step)
    assert checkpoints.steps() == [2, 9, 10]
    assert checkpoints.latest() == tmp_path / "step-10"


def test_only_so_many_are_kept_and_those_are_the_newest(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 3, 4):
        save(checkpoints, step)
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["step-3", "step-4"]


def test_no_folder_no_checkpoint(checkpoints: Checkpoints) -> None:
    assert checkpoints.steps() == []
    assert checkpoints.latest() is None


def test_a_save_that_was_killed_midway_is_not_taken_for_a_checkpoint(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1)
    half = checkpoints.folder / "step-2.tmp"
    half.mkdir()
    (half / "manifest.json").write_text("{}")
    (checkpoints.folder / "step-3").mkdir()  # no manifest
    assert checkpoints.steps() == [1]
    save(checkpoints, 2)
    assert checkpoints.steps() == [1, 2]
    assert not half.exists()


def test_saving_a_step_again_replaces_it(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, writes("old"))
    path = save(checkpoints, 1, writes("new"))
    assert (path / "policy" / "weights.bin").read_text() == "new"
    verify(path)


@pytest.mark.parametrize("name", ["policy/weights.bin", "run.json"])
def test_a_damaged_file_is_named(checkpoints: Checkpoints, name: str) -> None:
    path = save(checkpoints, 1)
    content = bytearray((path / name).read_bytes())
    content[0] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"step-1: {name} is damaged; remove this folder"):
        checkpoints.latest()


def test_a_missing_file_is_named(checkpoints: Checkpoints) -> None:
    path = save(checkpoints, 1)
    (path / "policy" / "weights.bin").unlink()
    with pytest.raises(RunError, match=r"weights\.bin is missing"):
        checkpoints.latest()


def test_a_damaged_manifest_is_named(checkpoints: Checkpoints) -> None:
    path = save(checkpoints, 1)
    (path / "manifest.json").write_text('{"run.json": "ab')
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        checkpoints.latest()


# --- a disk that is full ---------------------------------------------------------------------------------------------


def no_space(folder: Path) -> None:
    (folder / "policy").mkdir()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_a_worker(folder: Path) -> None:
    raise RunError("policy worker 0 failed: OSError: [Errno 28] No space left on device")


@pytest.mark.parametrize("write", [no_space, no_space_in_a_worker])
def test_a_full_disk_is_said_and_leaves_the_last_good_checkpoint(
    checkpoints: Checkpoints, write: Callable[[Path], None]
) -> None:
    save(checkpoints, 1)
    with pytest.raises(RunError, match=r"checkpoint of step 2 .*No space left.*last good one is step 1"):
        save(checkpoints, 2, write)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["step-1"]
    assert checkpoints.latest() == checkpoints.folder / "step-1"


def test_a_full_disk_before_any_checkpoint_is_said_too(checkpoints: Checkpoints) -> None:
    with pytest.raises(RunError, match="there is no earlier one"):
        save(checkpoints, 1, no_space)


def test_a_disk_that_is_full_only_for_the_manifest(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    save(checkpoints, 1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="last good one is step 1"):
        save(checkpoints, 2)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["step-1"]


def test_a_worker_that_died_while_saving_is_the_root_cause(checkpoints: Checkpoints) -> None:
    def die(_: Path) -> None:
        raise WorkerDied("policy worker 0 died: killed")

    with pytest.raises(WorkerDied, match="policy worker 0 died"):
        save(checkpoints, 1, die)
    assert checkpoints.steps() == []


def test_followers_write_their_share_and_leave_the_rest_to_the_leader(checkpoints: Checkpoints) -> None:
    scratch = checkpoints.folder / "step-1.tmp"
    scratch.mkdir(parents=True)
    met: list[list[str]] = []

    def barrier() -> None:
        met.append(sorted(path.name for path in scratch.iterdir()))

    checkpoints.save(1, writes("mine"), {}, leads=False, barrier=barrier)
    assert met == [[], ["policy"], ["policy"]]
    assert not (checkpoints.folder / "step-1").exists()


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
    checkpoints = Checkpoints(small_disk / "checkpoints", keep=2)

    def tensors(count: int) -> Callable[[Path], None]:
        return lambda folder: save_file({"w": torch.ones(count)}, folder / "w.safetensors")

    save(checkpoints, 1, tensors(25_000))  # 100 kB
    with pytest.raises(RunError, match=r"(?i)step 2 .*no space left.*last good one is step 1"):
        save(checkpoints, 2, tensors(50_000))
    assert [p.name for p in checkpoints.folder.iterdir()] == ["step-1"]
    save(checkpoints, 3, tensors(25_000))
    assert checkpoints.steps() == [1, 3]
