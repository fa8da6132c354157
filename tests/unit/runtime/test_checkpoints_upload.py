"""Finished checkpoints are copied elsewhere, whole or not counted, and come back to a machine that has none."""

from __future__ import annotations

import importlib.util
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rlhf.errors import ConfigError, RunError
from rlhf.runtime.checkpoints import Origin, read_manifest, verify
from rlhf.runtime.checkpoints.remote import RemoteFolder, require_upload
from rlhf.runtime.checkpoints.upload import Uploads
from tests.unit.runtime.saved_checkpoints import ORIGIN, Scene, writes


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place of its own: a folder, or what fsspec keeps in memory, which behaves as an object store does."""
    if request.param == "file":
        yield f"file://{tmp_path / 'there'}"
        return
    name = f"memory://{uuid.uuid4().hex}"
    yield name
    fs, path = fsspec.core.url_to_fs(name)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def here(tmp_path: Path, url: str, name: str = "here", **config: Any) -> Scene:
    """A run that uploads; it does not wait long between tries."""
    scene = Scene(tmp_path / name / "checkpoints", upload=url, **config)
    assert scene.checkpoints.uploads is not None
    scene.checkpoints.uploads._pauses = (0.01, 0.01)
    return scene


def there(url: str, origin: Origin = ORIGIN) -> list[int]:
    return list(RemoteFolder(url, origin).look().own)


def path_of(url: str, rest: str = "") -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(f"{url}/tiny/sft/{rest}".rstrip("/"))
    return fs, str(root)


def test_a_saved_checkpoint_is_copied_with_its_manifest_last(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    sent: list[str] = []
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    put = uploads.remote.put
    uploads.remote.put = lambda step, file, name: (sent.append(name), put(step, file, name))[1]
    path = scene.save(3)
    scene.checkpoints.settle()
    assert there(url) == [3]
    assert sent[-1] == "manifest.json"
    assert set(sent) == {*read_manifest(path).files, "manifest.json"}
    fs, root = path_of(url, "step-3/policy/weights.bin")
    assert fs.cat_file(root) == b"step 3"
    assert scene.notes == [f"step-3 is uploaded to {url}/tiny/sft"]


def test_an_empty_machine_takes_up_the_newest(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    (scene.folder.parent).mkdir()
    (scene.folder.parent / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    for step in (1, 2):
        scene.save(step)
        scene.checkpoints.settle()
    new = here(tmp_path, url, "new")
    path = new.checkpoints.newest_good()
    assert path == new.folder / "step-2"
    assert verify(path, ORIGIN) == read_manifest(scene.folder / "step-2")
    assert new.names() == ["step-2"]
    assert (new.folder.parent / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert new.notes == [f"fetching step-2 from {url}/tiny/sft (0.00 GB)"]


def test_what_is_here_and_as_new_is_not_fetched(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    scene.notes.clear()
    assert scene.checkpoints.newest_good() == scene.folder / "step-1"
    assert scene.notes == []


def test_a_damaged_one_here_is_replaced_by_the_copy(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    (scene.folder / "step-1" / "policy" / "weights.bin").write_text("flipped")
    path = scene.checkpoints.newest_good()
    assert path is not None
    assert (path / "policy" / "weights.bin").read_text() == "step 1"
    assert scene.names() == ["step-1"]


def test_an_upload_that_was_cut_does_not_count(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    for step in (1, 2):
        scene.save(step)
        scene.checkpoints.settle()
    fs, root = path_of(url, "step-2/manifest.json")
    fs.rm_file(root)
    new = here(tmp_path, url, "new")
    assert new.checkpoints.newest_good() == new.folder / "step-1"


@pytest.mark.parametrize("damage", ["policy/weights.bin", "manifest.json"])
def test_a_damaged_copy_is_said_and_the_one_before_it_taken(tmp_path: Path, url: str, damage: str) -> None:
    scene = here(tmp_path, url)
    for step in (1, 2):
        scene.save(step)
        scene.checkpoints.settle()
    fs, root = path_of(url, f"step-2/{damage}")
    content = bytearray(fs.cat_file(root))
    content[3] ^= 1
    fs.pipe_file(root, bytes(content))
    new = here(tmp_path, url, "new")
    assert new.checkpoints.newest_good() == new.folder / "step-1"
    assert new.names() == ["step-1"]
    assert sum(f"step-2 in {url}/tiny/sft is" in note and damage in note for note in new.notes) == 1


def test_a_hostile_manifest_makes_no_file_outside(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    manifest = read_manifest(scene.save(1))
    scene.checkpoints.settle()
    record = manifest.files["policy/weights.bin"]
    evil = manifest.model_copy(update={"files": {"../../evil": record}}).sealed()
    fs, root = path_of(url, "step-1/manifest.json")
    fs.pipe_file(root, evil.as_json().encode())
    new = here(tmp_path, url, "new")
    assert new.checkpoints.newest_good() is None
    assert "'../../evil' is no name of a file in this folder" in new.notes[0]
    assert not list(tmp_path.rglob("evil"))


def test_old_copies_are_removed_by_the_same_rules(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url, keep=1, keep_best={"metric": "reward/mean"})
    for step, figure in ((1, 0.1), (2, 0.9), (3, 0.5), (4, 0.3)):
        scene.save(step, metrics={"reward/mean": figure})
        scene.checkpoints.settle()
    assert there(url) == [2, 4]
    fs, root = path_of(url)
    assert sorted(path.rsplit("/", 1)[-1] for path in fs.ls(root, detail=False)) == ["step-2", "step-4"]


def test_a_copy_that_was_half_removed_does_not_count(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    remote = RemoteFolder(url, ORIGIN)
    remote._fs = Cut(remote._fs)
    with pytest.raises(TimeoutError):
        remote.remove(1)
    assert there(url) == []


class Cut:
    """A file system whose connection is lost when it is to remove a whole folder."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def rm(self, path: str, recursive: bool) -> None:
        raise TimeoutError(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)


def test_another_runs_copies_are_neither_taken_nor_removed_and_refused_at_the_start(tmp_path: Path, url: str) -> None:
    other = ORIGIN.model_copy(update={"recipe": "f" * 16})
    scene = Scene(tmp_path / "other" / "checkpoints", upload=url, origin=other)
    scene.save(7)
    scene.checkpoints.settle()
    mine = here(tmp_path, url, keep=1)
    assert mine.checkpoints.newest_good() is None
    mine.save(1)
    mine.checkpoints.settle()
    assert there(url, other) == [7]
    with pytest.raises(ConfigError, match=rf"of another recipe \(f{{16}} in step-7, this is {ORIGIN.recipe}\)"):
        require_upload(url, ORIGIN)


def test_a_place_of_this_runs_own_and_an_empty_one_are_accepted(tmp_path: Path, url: str) -> None:
    require_upload(url, ORIGIN)
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    require_upload(url, ORIGIN)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("gopher://x/y", "cannot open gopher://x/y: Protocol not known: gopher"),
        ("s3://bucket/runs", "cannot open s3://bucket/runs: Install s3fs to access S3"),
    ],
)
def test_a_place_that_cannot_be_opened_is_refused(place: str, told: str) -> None:
    if place.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(ConfigError, match=f"^checkpoint.upload: {told}"):
        require_upload(place, ORIGIN)


def test_a_place_that_cannot_be_looked_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot look into file://.*/file/tiny/sft: NotADirectoryError"):
        require_upload(f"file://{tmp_path}/file", ORIGIN)


# --- a network that fails ---------------------------------------------------------------------------------------------


class Flaky:
    """Fails the first calls."""

    def __init__(self, failures: int, real: Any) -> None:
        self.left, self.calls, self._real = failures, 0, real

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise TimeoutError("no answer")
        return self._real(*arguments)


def flaky(scene: Scene, failures: int) -> Flaky:
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    uploads.remote.put = Flaky(failures, uploads.remote.put)
    return uploads.remote.put


def test_a_failure_is_tried_again(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    put = flaky(scene, 2)
    scene.save(1)
    scene.checkpoints.settle()
    assert there(url) == [1]
    assert put.calls == 4 + 2


def test_an_upload_that_fails_for_good_is_an_alarm_and_the_next_is_made(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    flaky(scene, 3)
    scene.save(1)
    scene.checkpoints.settle()
    assert scene.notes == [f"ALARM: step-1 could not be uploaded to {url}/tiny/sft: TimeoutError: no answer"]
    assert there(url) == []
    scene.save(2)
    scene.checkpoints.settle()
    assert there(url) == [2]


def test_less_than_was_sent_is_a_failure(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url)
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    uploads.remote._fs = fs = fsspec.core.url_to_fs(url)[0]
    put_file = fs.put_file
    fs.put_file = lambda local, remote: fs.pipe_file(remote, b"x") if "weights" in remote else put_file(local, remote)
    try:
        scene.save(1)
        scene.checkpoints.settle()
    finally:
        del fs.put_file
    assert "policy/weights.bin: sent 6 bytes, 1 arrived" in scene.notes[0]
    assert there(url) == []


def test_without_anything_here_a_place_that_does_not_answer_ends_a_resume(tmp_path: Path, url: str) -> None:
    """To begin again would be to throw away what is there."""
    scene = here(tmp_path, url)
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    uploads.remote.look = Flaky(9, None)
    with pytest.raises(RunError, match=r"no good checkpoint is here, and .* cannot be read \(Timeout"):
        scene.checkpoints.newest_good()
    scene.save(1)
    scene.checkpoints.settle()
    scene.notes.clear()
    assert scene.checkpoints.newest_good() == scene.folder / "step-1"
    assert scene.notes[0].startswith("ALARM: ")
    assert scene.notes[0].endswith("going on from what is here, step 1")


# --- while training goes on -------------------------------------------------------------------------------------------


def test_what_is_being_copied_stays_and_what_waits_gives_way_to_a_newer_one(tmp_path: Path, url: str) -> None:
    scene = here(tmp_path, url, keep=1)
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    begun, go_on = threading.Event(), threading.Event()
    put = uploads.remote.put

    def slow(step: int, file: Path, name: str) -> None:
        begun.set()
        assert go_on.wait(20)
        put(step, file, name)

    uploads.remote.put = slow
    scene.save(1)
    assert begun.wait(20)
    scene.save(2)
    scene.save(3)
    assert uploads.holding() == {1, 3}
    assert scene.names() == ["step-1", "step-3"]  # the first is still being read
    go_on.set()
    scene.checkpoints.settle()
    assert scene.notes[0] == "step-2 is not uploaded: step-3 is newer"
    assert there(url) == [3]
    assert scene.names() == ["step-3"]


def test_waiting_for_an_upload_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.runtime.checkpoints.upload._PROGRESS_SECONDS", 0.0)
    scene = here(tmp_path, f"file://{tmp_path}/there")
    uploads = scene.checkpoints.uploads
    assert uploads is not None
    put, go_on = uploads.remote.put, threading.Event()

    def slow(step: int, file: Path, name: str) -> None:
        assert go_on.wait(20)
        put(step, file, name)

    uploads.remote.put = slow
    scene.save(1)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        go_on.set()

    uploads.settle(note)
    assert notes[0] == "waiting for the upload of step-1: 0.00 of 0.00 GB"
    assert there(f"file://{tmp_path}/there") == [1]


def test_a_copy_that_is_written_anew_does_not_count_meanwhile(tmp_path: Path, url: str) -> None:
    """A run that went on from an earlier step comes to this one again."""
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    flaky(scene, 3)
    scene.save(1, writes("other"))
    scene.checkpoints.settle()
    assert there(url) == []


def test_only_the_leading_process_uploads(tmp_path: Path) -> None:
    from tests.unit.runtime.test_checkpoints import Ranks

    assert Scene(tmp_path, upload=f"file://{tmp_path}", ranks=Ranks(rank=1)).checkpoints.uploads is None


def test_a_fetched_checkpoint_needs_room(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = here(tmp_path, url)
    scene.save(1)
    scene.checkpoints.settle()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 1))
    new = here(tmp_path, url, "new")
    with pytest.raises(RunError, match=r"step-1 cannot be fetched from .*: it has \d+ bytes, .* has 1 left"):
        new.checkpoints.newest_good()
    assert new.names() == []


def test_a_run_named_after_a_parent_folder_is_refused(tmp_path: Path) -> None:
    origin = ORIGIN.model_copy(update={"run": ".."})
    with pytest.raises(ConfigError, match="would leave the given folder"):
        Uploads(f"file://{tmp_path}", Scene(tmp_path).checkpoints.config, origin, tmp_path)
