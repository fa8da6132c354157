"""Runs the contract on a plugin: finds it, starts a clean process, and outlives whatever happens there."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from rlhf.errors import PluginError, RunError, nearest
from rlhf.testing.checks import Answer
from rlhf.testing.findings import Finding
from rlhf.testing.package_folder import read_package_folder, write_metadata
from rlhf.testing.verdicts import Verdict

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def check_target(
    target: str, options: Mapping[str, Mapping[str, Any]], data: Path | None, timeout: float
) -> Iterator[Finding]:
    """The findings on a plugin, as they come; `target` as of `rlhf plugins check`, `timeout` in seconds a check.

    Raises `PluginError` where there is no such plugin, `DataError` where the data cannot be read.
    """
    request: dict[str, Any] = {"options": {name: dict(table) for name, table in options.items()}}
    if data is not None:
        request |= {"data": str(data.absolute())}
    path, separator, function = target.partition(".py:")
    if separator or target.endswith(".py"):
        file = Path(path + ".py" if separator else target)
        if not file.is_file():
            siblings = [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else []
            raise PluginError(f"no file {file}.{nearest(file.name, siblings)}")
        yield from _check_one(request | {"path": f"{file.absolute()}{':' if function else ''}{function}"}, [], timeout)
    elif _is_folder(target):
        package = read_package_folder(Path(target).absolute())
        with tempfile.TemporaryDirectory(prefix="rlhf-check-") as folder:
            places = write_metadata(package, Path(folder))
            for name in package.entry_points:
                yield from _check_one(request | {"name": name}, places, timeout)
    else:
        yield from _check_one(request | {"name": target}, [], timeout)


def _is_folder(target: str) -> bool:
    """A folder may be called as a plugin is (`data`): then it must look like a package."""
    folder = Path(target)
    return (folder / "pyproject.toml").is_file() or (os.sep in target) or target in (".", "..")


def _check_one(request: dict[str, Any], places: list[Path], timeout: float) -> Iterator[Finding]:
    """One plugin; a part that ends the process or hangs is failed, and the others go on in a new one."""
    answers: dict[str, list[Answer]] = {}
    waiting: list[str] | None = None  # parts nothing is known of yet; None before the plugin has named its parts
    while waiting is None or waiting:
        asked = request if waiting is None else request | {"parts": waiting}
        running = ("plugin", "starts")
        with _Process(asked, places, timeout, hash_seed=1) as process:
            for event in process.events():
                if "answers" in event:
                    answers[event["part"]] = event["answers"]
                if "parts" in event:
                    waiting = list(event["parts"])
                if "start" in event:
                    running = (event["part"], event["start"])
                    waiting = None if waiting is None else _from(waiting, event["part"])
                if "finding" in event:
                    yield Finding(**event["finding"])
        if process.is_done:
            break
        if running[0] == "plugin" and running[1] == "starts":
            raise RunError(f"the checking process did not start: {process.ending}")
        yield Finding(running[0], running[1], "failed", process.ending)
        waiting = [] if waiting is None else [part for part in waiting if part != running[0]]
    if answers:
        yield from _compare_processes(request | {"parts": [*answers], "answers_only": True}, places, timeout, answers)


def _compare_processes(
    request: dict[str, Any], places: list[Path], timeout: float, answers: Mapping[str, list[Answer]]
) -> Iterator[Finding]:
    """Ask again in a process that hashes strings otherwise, so walks through sets in another order, as workers do."""
    again: dict[str, list[Answer]] = {}
    with _Process(request, places, timeout, hash_seed=2) as process:
        for event in process.events():
            if "answers" in event:
                again[event["part"]] = event["answers"]
    for part, first in answers.items():
        if part not in again:
            cause = process.ending or "it gave no answer"
        else:
            cause = _difference(first, again[part])
        yield Finding(part, "another process", "failed" if cause else "ok", cause)


def _difference(first: list[Answer], second: list[Answer]) -> str:
    for number, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        here, there = (Verdict(value=value, error=error) for value, error in (one, other))
        if not here.agrees_with(there):
            return f"{here} in one process, {there} in another, for row {number}: it may walk through a set"
    return ""


def _from(waiting: list[str], part: str) -> list[str]:
    """The parts from this one on."""
    return waiting[waiting.index(part) :] if part in waiting else waiting


class _Process:
    """The clean process, and what it says; all of it is gone when the block is left."""

    def __init__(self, request: Mapping[str, Any], places: list[Path], timeout: float, hash_seed: int) -> None:
        self._timeout = timeout
        self.is_done = False
        self.ending = ""
        """Why it said no more, where it is not done."""
        path = [*map(str, places), str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rlhf.testing.checked_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
                "PYTHONHASHSEED": str(hash_seed),
            },
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which `events` tells
            self._process.stdin.write(json.dumps(request).encode())
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its children too
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def events(self) -> Iterator[dict[str, Any]]:
        """What it says, until it is done, ends, or says nothing for the time-out."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            deadline = time.monotonic() + self._timeout
            while True:
                # A child of the plugin may hold the pipe open after the process itself has ended.
                if not selector.select(min(0.5, max(0.0, deadline - time.monotonic()))):
                    if self._process.poll() is not None:
                        break
                    if time.monotonic() >= deadline:
                        self.ending = f"no answer within {self._timeout:g} s"
                        return
                    continue
                chunk = os.read(pipe, 65536)
                if not chunk:
                    break
                deadline = time.monotonic() + self._timeout
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if "refused" in event:
                        raise PluginError(event["refused"])
                    self.is_done = self.is_done or "done" in event
                    yield event
                if self.is_done:
                    return
        self.ending = _ending(self._process.wait())


def _ending(code: int) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"it ended the process, with exit code {code}"
