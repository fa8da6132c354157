"""This side of the sandbox's wall: start confined processes, give them a job, read what they answer, end them."""

from __future__ import annotations

import io
import json
import os
import select
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from rlhf_code.inside.confinement import Limits
from rlhf_code.processes import Confined, Launcher, SandboxError, in_memory

_REPORT_S = 2.0
"""What a judge may take to write its report after its own time is over."""
_REPORT_BYTES = 1 << 16
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Printed:
    """What a script wrote to standard output, and whether it came to its end in time and within bounds."""

    output: bytes
    ended: Literal["completed", "timeout", "too much output"]


@dataclass(frozen=True)
class Report:
    """A judge's count. `ended` is `tests` where the tests themselves are at fault, as `reason` says."""

    passed: int
    tests: int
    ended: Literal["completed", "stopped", "timeout", "tests"]
    reason: str = ""


class Sandbox:
    """Runs programs, each in a process tree of its own. Safe to use from several threads.

    `seconds` is the wall-clock time of one program, from the moment it is confined. Every method raises `SandboxError`
    where the sandbox itself failed and nothing is known about the program.
    """

    def __init__(self, limits: Limits, seconds: float) -> None:
        self.limits = limits
        self.seconds = seconds
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None

    def run_script(self, source: str, stdin: str, most_bytes: int) -> Printed:
        """Run a program as a script and keep what it prints, up to `most_bytes`."""
        with ExitStack() as opened:
            reading, writing = _pipe(opened)
            given = opened.enter_context(in_memory(stdin.encode(errors="replace")))
            script = self._start(opened, {"role": "script", "source": source}, given, writing)
            writing.close()
            script.wait_confined()
            return _printed(reading, script, most_bytes, time.monotonic() + self.seconds)

    def run_tests(
        self, source: str, tests: Sequence[str], *, setup: str = "", entry_point: str | None = None
    ) -> Report:
        """Try test code against the functions of a program: two processes, which share nothing but a pair of pipes."""
        asked = {"setup": setup, "tests": [*tests], "entry_point": entry_point, "seconds": self.seconds}
        with ExitStack() as opened:
            to_program, calls = _pipe(opened)
            replies, from_program = _pipe(opened)
            reading, report = _pipe(opened)
            program = self._start(opened, {"role": "functions", "source": source}, to_program, from_program)
            judge = self._start(opened, {"role": "judge", "tests": asked}, replies, calls, report)
            for ours in (to_program, calls, replies, from_program, report):
                ours.close()
            program.wait_confined()
            judge.wait_confined()
            return _reported(reading, judge, time.monotonic() + self.seconds + _REPORT_S)

    def close(self) -> None:
        """End the launcher; it is started again when needed."""
        with self._lock:
            launcher, self._launcher = self._launcher, None
        if launcher:
            launcher.close()

    def _start(
        self,
        opened: ExitStack,
        job: Mapping[str, Any],
        stdin: io.FileIO,
        stdout: io.FileIO,
        report: io.FileIO | None = None,
    ) -> Confined:
        """A process with this job, ended with `opened`; a launcher that was killed is started anew, once."""
        with in_memory(json.dumps(job).encode()) as written:
            channels = (written, stdin, stdout, report or stdout)
            launcher = self._running()
            try:
                return opened.enter_context(launcher.start(channels))
            except (BrokenPipeError, ConnectionResetError):
                with self._lock:
                    if self._launcher is launcher:
                        self._launcher = None
                launcher.close()
                return opened.enter_context(self._running().start(channels))

    def _running(self) -> Launcher:
        with self._lock:
            if self._launcher is None:
                self._launcher = Launcher(self.limits)
            return self._launcher


def _pipe(opened: ExitStack) -> tuple[io.FileIO, io.FileIO]:
    """The reading and the writing end, closed with `opened` at the latest."""
    reading, writing = os.pipe()
    return opened.enter_context(io.FileIO(reading, "r")), opened.enter_context(io.FileIO(writing, "w"))


def _printed(reading: io.FileIO, script: Confined, most_bytes: int, deadline: float) -> Printed:
    output, complete = _read(reading, most_bytes + 1, deadline)
    if len(output) > most_bytes:
        return Printed(output, "too much output")
    # One that closes its output and lives on has not come to its end.
    in_time = complete and script.wait_ended(deadline)
    script.require_launcher()
    return Printed(output, "completed" if in_time else "timeout")


def _reported(reading: io.FileIO, judge: Confined, deadline: float) -> Report:
    answer, _ = _read(reading, _REPORT_BYTES, deadline)
    judge.require_launcher()
    if not answer:  # what the program returned, or the tests, kept the judge too busy even to say so
        return Report(0, 1, "timeout")
    return Report(**json.loads(answer))


def _read(reading: io.FileIO, most_bytes: int, deadline: float) -> tuple[bytes, bool]:
    """What comes until the end, `most_bytes` or the deadline; and whether it was the end."""
    chunks: list[bytes] = []
    length = 0
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while length < most_bytes:
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left_ms):
            return b"".join(chunks), False
        chunk = reading.read(_CHUNK)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
        length += len(chunk)
    return b"".join(chunks), False


__all__ = ["Printed", "Report", "Sandbox", "SandboxError"]
