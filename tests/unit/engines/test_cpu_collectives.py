"""A process killed while it loads DeepSpeed's C++ part must not stop every later start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

from rlhf.engines.cpu_collectives import own_folder, turn


def hold(marks: Path) -> None:
    """Take a turn, as torch would leave its lock in it, and never end it."""
    with turn(marks):
        (marks / "deepspeed_shm_comm" / "lock").touch()
        (marks / "held").touch()
        time.sleep(600)


def wait(marks: Path) -> None:
    with turn(marks):
        (marks / "had").touch()


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_two_installations_have_a_build_each() -> None:
    assert own_folder("/one/torch/__init__.py") != own_folder("/other/torch/__init__.py")
    assert own_folder("/one/torch/__init__.py") == own_folder("/one/torch/__init__.py")


def test_the_next_process_waits_for_one_that_lives_and_not_for_one_that_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    first, second = (context.Process(target=work, args=(tmp_path,)) for work in (hold, wait))
    first.start()
    until(tmp_path / "held")
    second.start()
    time.sleep(0.5)
    assert second.is_alive()
    assert lock.exists()
    assert not (tmp_path / "had").exists()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second.join(60)
    first.join()
    assert second.exitcode == 0
    assert (tmp_path / "had").exists()
    assert not lock.exists()
