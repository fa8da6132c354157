"""A checkpoint that is not as it was written is told by its first fault, set aside, and the one before it taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import RunError
from rlhf.runtime.checkpoints import DamagedCheckpoint, verify
from rlhf.runtime.checkpoints.manifest import MANIFEST
from tests.unit.runtime.saved_checkpoints import ORIGIN, Scene, state, writes

WEIGHTS = "policy/weights.bin"


def manifest_with(checkpoint: Path, **changes: Any) -> None:
    """An edited manifest whose own hash is right: what only an attacker, or another version of rlhf, would write."""
    content = json.loads((checkpoint / MANIFEST).read_text()) | changes
    del content["seal"]
    seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps(content | {"seal": seal}))


def truncated(path: Path) -> None:
    os.truncate(path / WEIGHTS, 3)


def removed(path: Path) -> None:
    (path / WEIGHTS).unlink()


def flipped(name: str) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray((path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (path / name).write_bytes(content)

    return flip


def edited_manifest(path: Path) -> None:
    """The hash of a changed file is put right, too."""
    (path / WEIGHTS).write_text("evil 2")
    text = (path / MANIFEST).read_text()
    old, new = (hashlib.sha256(content).hexdigest() for content in (b"step 2", b"evil 2"))
    assert old in text
    (path / MANIFEST).write_text(text.replace(old, new))


def no_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a folder")


def linked(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def linked_file(path: Path) -> None:
    """The content is right; but whoever owns the other file may change it later."""
    shutil.copy(path / WEIGHTS, path.parent / "outside")
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).symlink_to(path.parent / "outside")


def linked_folder(path: Path) -> None:
    (path / "policy").rename(path.parent / "outside")
    (path / "policy").symlink_to(path.parent / "outside")


def piped(path: Path) -> None:
    """Reading it would wait for ever."""
    (path / WEIGHTS).unlink()
    os.mkfifo(path / WEIGHTS)


def too_many(path: Path) -> None:
    (path / "policy" / "pytorch_model.bin").write_text("x")


def renamed(path: Path) -> None:
    """An older checkpoint under a newer one's name."""
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-1"), path)


def of_another(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest_with(path, origin={**ORIGIN.model_dump(), key: "another"})

    return change


def leading_out(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path.parent / "outside").write_text("secret")
        manifest_with(path, files={name: {"bytes": 6, "sha256": "0" * 64}})

    return change


def hostile(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / MANIFEST).write_text(text)

    return change


def state_of(text: str) -> Callable[[Path], None]:
    """Written and sealed as if a run had."""

    def change(path: Path) -> None:
        from rlhf.runtime.checkpoints.manifest import record_of

        (path / "run.json").write_text(text)
        files = json.loads((path / MANIFEST).read_text())["files"]
        manifest_with(path, files=files | {"run.json": record_of(path / "run.json").model_dump()})

    return change


HEX = "[0-9a-f]{16}"
FAULTS = {
    "truncated": (truncated, r"policy/weights\.bin: expected 6 bytes, found 3"),
    "missing": (removed, r"policy/weights\.bin is missing: expected 6 bytes"),
    "flipped": (flipped(WEIGHTS), rf"policy/weights\.bin: expected sha256 {HEX}, found {HEX}"),
    "flipped state": (flipped("run.json"), rf"run\.json: expected sha256 {HEX}, found {HEX}"),
    "flipped manifest": (flipped(MANIFEST), r"manifest\.json (was changed|is damaged)"),
    "edited manifest": (edited_manifest, rf"manifest\.json was changed: expected sha256 '{HEX}', found '{HEX}'"),
    "no manifest": (no_manifest, r"manifest\.json is missing"),
    "empty": (emptied, r"manifest\.json is missing: nothing was saved here, or not to its end"),
    "a file": (a_file, "is a link or a file, expected a folder"),
    "link": (linked, "is a link or a file, expected a folder"),
    "link inside": (linked_file, r"policy/weights\.bin is a link or a device, expected a plain file"),
    "linked folder": (linked_folder, "policy is a link or a device"),
    "pipe": (piped, r"policy/weights\.bin is a link or a device"),
    "too many": (too_many, r"policy/pytorch_model\.bin is not in manifest\.json"),
    "renamed": (renamed, r"manifest\.json is of step 1, expected step 2"),
    "another run": (of_another("run"), r"is of another run: expected 'tiny', found 'another'"),
    "another stage": (of_another("stage"), r"is of another stage: expected 'sft', found 'another'"),
    "another recipe": (of_another("recipe"), r"is of another recipe: expected '0123456789abcdef', found 'another'"),
    "out by dots": (leading_out("../outside"), r"'\.\./outside' is no name of a file in this folder"),
    "out by root": (leading_out("/etc/hostname"), r"'/etc/hostname' is no name"),
    "out by depth": (leading_out("policy/../../outside"), r"is no name of a file"),
    "not JSON": (hostile("\0\1"), r"manifest\.json is damaged"),
    "deep": (hostile("[" * 100_000), r"manifest\.json is damaged"),
    "huge number": (hostile('{"step": 1' + "0" * 10_000 + "}"), r"manifest\.json is damaged"),
    "not finite": (hostile('{"saved_at": NaN}'), r"manifest\.json is damaged"),
    "other JSON": (hostile("[1, 2]"), r"manifest\.json is damaged"),
    "old form": (hostile('{"run.json": "abc"}'), r"manifest\.json is damaged \(step: Field required"),
    "state of nothing": (state_of("{}"), r"run\.json: expected `step` as int, found nothing"),
    "state of another kind": (state_of(json.dumps(state(2) | {"ahead": {}})), r"expected `ahead` as list, found dict"),
    "deep state": (state_of("[" * 100_000), r"run\.json cannot be read"),
    "state not JSON": (state_of("step"), r"run\.json cannot be read"),
}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Steps 1 and 2, both good."""
    scene = Scene(tmp_path / "checkpoints")
    scene.save(1)
    scene.save(2)
    return scene


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(scene: Scene, fault: str) -> None:
    damage, told = FAULTS[fault]
    damage(scene.folder / "step-2")
    assert scene.checkpoints.newest_good() == scene.folder / "step-1"
    (line,) = scene.notes
    assert line.startswith("checkpoint step-2: ")
    assert line.endswith("; set aside as step-2.set-aside, going on from step 1")
    assert "\n" not in line
    with pytest.raises(DamagedCheckpoint, match=told) as caught:
        raise DamagedCheckpoint(line)
    assert len(str(caught.value)) < 500
    assert os.path.lexists(scene.folder / "step-2.set-aside")
    assert not os.path.lexists(scene.folder / "step-2")
    assert scene.save(2, writes("again")) == scene.checkpoints.newest_good()


def test_a_good_one_passes(scene: Scene) -> None:
    assert verify(scene.folder / "step-2", ORIGIN).step == 2
    assert scene.checkpoints.newest_good() == scene.folder / "step-2"
    assert scene.notes == []


def test_two_damaged_ones_are_passed_over(scene: Scene) -> None:
    scene.checkpoints.config = scene.checkpoints.config.model_copy(update={"keep": 5})
    scene.save(3)
    for step in (2, 3):
        truncated(scene.folder / f"step-{step}")
    assert scene.checkpoints.newest_good() == scene.folder / "step-1"
    assert [note.partition(":")[0] for note in scene.notes] == ["checkpoint step-3", "checkpoint step-2"]


def test_a_second_one_of_its_step_is_set_aside_too(scene: Scene) -> None:
    for _ in range(2):
        truncated(scene.folder / "step-2")
        scene.checkpoints.newest_good()
        scene.save(2)
    assert scene.names() == ["step-1", "step-2", "step-2.set-aside", "step-2.set-aside-2"]


def test_where_none_is_good_all_are_named_and_none_is_touched(scene: Scene) -> None:
    """A run that quietly began again would write over what it had logged."""
    truncated(scene.folder / "step-2")
    no_manifest(scene.folder / "step-1")
    before = scene.names()
    for _ in range(2):
        with pytest.raises(
            RunError,
            match=r"no checkpoint in .* is good \(step-2: policy/weights\.bin: expected 6 bytes, found 3; "
            r"step-1: manifest\.json is missing.*\); put back an unharmed one, or remove that folder to begin",
        ):
            scene.checkpoints.newest_good()
        assert scene.names() == before


def test_a_manifest_larger_than_any_is_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.runtime.checkpoints.manifest._LARGEST", 10)
    with pytest.raises(RunError, match=r"manifest\.json has \d+ bytes, expected at most 10"):
        scene.checkpoints.newest_good()


def test_names_that_only_resemble_a_checkpoint_are_left_alone(scene: Scene) -> None:
    for name in ("step-", "step-x", "step-007", "step-9" * 20, "step-3 (copy)", "STEP-4", "latest"):
        (scene.folder / name).mkdir()
    assert scene.checkpoints.newest_good() == scene.folder / "step-2"
    assert len(scene.names()) == 9


def test_files_are_hashed_once_as_long_as_nothing_touches_them(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver asks before it starts anything, and the run asks again."""
    hashed: list[str] = []
    from rlhf.runtime.checkpoints import verifying

    records_of = verifying.records_of

    def counted(paths: Any) -> Any:
        hashed.extend(paths)
        return records_of(paths)

    monkeypatch.setattr(verifying, "records_of", counted)
    for _ in range(2):
        verify(scene.folder / "step-2", ORIGIN)
    assert len(hashed) == 3
    flipped(WEIGHTS)(scene.folder / "step-2")
    with pytest.raises(DamagedCheckpoint, match="sha256"):
        verify(scene.folder / "step-2", ORIGIN)


def test_a_damaged_one_is_never_pruned_for_another(scene: Scene) -> None:
    """What it was is for a human to say."""
    flipped(MANIFEST)(scene.folder / "step-1")
    for step in (3, 4, 5):
        scene.save(step)
    assert scene.names() == ["step-1", "step-4", "step-5"]
