"""One run in one folder, whatever ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.errors import ConfigError
from rlhf.runtime.run_lock import LOCK_NAME, locked

HOLDER = """
import sys, time
from pathlib import Path
from rlhf.runtime.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_told_who_has_the_folder(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=rf"run folder .*run is in use by process {holder.pid} on .* since 20"),
        locked(tmp_path / "run"),
    ):
        pass
    holder.kill()
    holder.wait()


def test_a_lock_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / LOCK_NAME).is_file()
    with locked(tmp_path / "run"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "run" / LOCK_NAME).read_text()


def test_what_was_made_for_the_lock_alone_goes_with_it(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "run"):
        pass
    assert not (tmp_path / "new" / "run").exists()
    with locked(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "recipe.yaml").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["recipe.yaml"]


def test_one_who_waited_for_a_file_that_is_gone_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, its holder may remove it: that lock would keep nobody out."""
    import fcntl

    real, removed = fcntl.flock, []

    def flock(file: object, operation: int) -> None:
        real(file, operation)  # type: ignore[arg-type]
        if not removed:
            removed.append((tmp_path / LOCK_NAME).unlink())

    monkeypatch.setattr("rlhf.runtime.run_lock.fcntl.flock", flock)
    with locked(tmp_path):
        assert (tmp_path / LOCK_NAME).is_file()
        with pytest.raises(ConfigError, match="in use by"), locked(tmp_path):
            pass
