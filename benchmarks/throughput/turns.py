"""Turns: a contender runs in a process of its own, takes one step when it is told to, and waits in between.

Two pipes join it to the controller, whose ends are named in the environment. The contender says it is ready, then reads
a line for each turn and answers with a line of JSON: the seconds its step took, figures of the step, its peak memory.
A contender that waits is blocked in a read and costs nothing; `idle_share` measures that it is so. One that dies closes
its pipe, one that hangs runs into the limit; both are `ContenderFailed`, with the last line it wrote to its log.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "THROUGHPUT_TURNS"
GO, STOP = "go", "stop"
ROOT = Path(__file__).resolve().parents[2]
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Died|Killed)\b")


class ContenderFailed(Exception):
    """A contender died, hung, or said that it cannot run here."""


# --- the contender's side --------------------------------------------------------------------------------------------


class Turns:
    """What a contender does between its steps. One a process."""

    def __init__(self, read: int, write: int) -> None:
        self._orders = os.fdopen(read, encoding="utf-8")
        self._answers = os.fdopen(write, "w", encoding="utf-8")
        self._began = 0.0
        self.going = False

    @classmethod
    def from_environment(cls) -> Turns:
        read, write = os.environ[VARIABLE].split(",")
        return cls(int(read), int(write))

    def ready(self) -> bool:
        """All is loaded: wait for the first turn. False: there is none."""
        return self._answer({"ready": True})

    def done(self, **figures: Any) -> bool:
        """The step is over: report and wait for the next turn. False: that was the last."""
        seconds = time.perf_counter() - self._began
        return self._answer({"seconds": seconds, "peak_bytes": peak_bytes(os.getpid()), **figures})

    def cannot(self, reason: str) -> None:
        """Say why there will be no steps."""
        self._write({"failed": reason})

    def _answer(self, message: Mapping[str, Any]) -> bool:
        self._write(message)
        self.going = self._orders.readline().strip() == GO
        self._began = time.perf_counter()
        return self.going

    def _write(self, message: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()


def peak_bytes(pid: int) -> int:
    """Peak resident memory of a process, from the kernel (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


# --- the controller's side -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What a contender reported of one step."""

    seconds: float
    peak_bytes: int
    """Of the contender's process and of those below it that work for it: not Ray's own, nor its idle ones."""
    figures: dict[str, Any]


class Contender:
    """A process that takes turns."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self._log = name, log
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(orders, answers),
                env={**os.environ, **environment, VARIABLE: f"{orders},{answers}"},
                start_new_session=True,
                cwd=ROOT,
            )
        os.close(orders)
        os.close(answers)
        self._unread = b""

    def wait_ready(self, limit_s: float) -> None:
        """Wait until it can take its first step."""
        self._receive(limit_s)

    def step(self, limit_s: float) -> Turn:
        """Let it take one step."""
        self._order(GO)
        message = self._receive(limit_s)
        below = sum(_peak_or_zero(pid) for pid in processes_below(self._process.pid) if not _is_rays_own(pid))
        return Turn(message.pop("seconds"), message.pop("peak_bytes") + below, message)

    def cpu_seconds(self) -> float:
        """Processor time spent so far, with every process below it."""
        return sum(map(_cpu_seconds, (self._process.pid, *processes_below(self._process.pid))))

    def stop(self, limit_s: float = 20.0) -> None:
        """Let it end, and end it if it does not."""
        try:
            self._order(STOP)
            self._process.wait(limit_s)
        except (ContenderFailed, subprocess.TimeoutExpired):
            self.kill()

    def kill(self) -> None:
        """End it at once, with all processes it started."""
        for pid in (self._process.pid, *processes_below(self._process.pid)):
            _kill(pid)
        self._process.wait()

    def _order(self, order: str) -> None:
        try:
            os.write(self._orders, f"{order}\n".encode())
        except BrokenPipeError:  # nobody reads any more
            raise ContenderFailed(self._last_words("died")) from None

    def _receive(self, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ContenderFailed(self._last_words(f"did not answer within {limit_s:g} s"))
            piece = os.read(self._answers, 65536)
            if not piece:
                raise ContenderFailed(self._last_words("died"))
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "failed" in message:
            raise ContenderFailed(message["failed"])
        return message

    def _last_words(self, what: str) -> str:
        """The last line of its log that names an error, or else the last line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        told = [line for line in lines if _ERROR.match(line)] or lines
        return f"{what}: {told[-1].strip()[:300]}" if told else what


def processes_below(pid: int) -> list[int]:
    """Children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, waiting = [], [pid]
    while waiting:
        waiting += (below := children.get(waiting.pop(), []))
        found += below
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            yield int(folder.name), int(fields[1])


def _stat(pid: int) -> list[str]:
    """The kernel's figures of a process, from its state on; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _peak_or_zero(pid: int) -> int:
    try:
        return peak_bytes(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _is_rays_own(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return b"/ray/" in command or command.startswith((b"ray::IDLE", b"ray::Dashboard"))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
