"""Processes that compare answers and may be killed at any time: a pool of `checker_process.py`, started when needed.

A row that hangs the algebra is ended by the kernel after its share of processor time and costs no other row its
answer. What ended a process tells who is to blame: the row (its time, a crash) or the machine (a kill from outside, no
answer at all), and only the first is a verdict.

Plain subprocesses, because a daemonic process may have no children of multiprocessing. They read requests from a pipe,
so they end with the process that started them, however that one ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.errors import PluginError

_PROGRAM = Path(__file__).with_name("checker_process.py")
_START_SECONDS = 120.0
"""Of the clock, to import the library where every core is taken many times over."""
_PATIENCE = 12.0
"""Seconds of the clock allowed for one second of processor time."""
_KEPT_VARIABLES = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR", "VIRTUAL_ENV")
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
INSTALL = "pip install 'math-verify[antlr4_13_2]'"


class CheckStopped(Exception):
    """The request itself ended the process: it used up its time or its memory, or crashed the library."""


class CheckLost(Exception):
    """The process was ended from outside, or gave no answer though it had time left: the machine's fault."""


class Checker:
    """One process. `ask` may be called by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(seconds)],  # -P: no file beside the program hides a library
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a late one holds nobody's standard error open
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the run, which then closes its pipes
        )
        assert self.process.stdin, "opened as a pipe"
        assert self.process.stdout, "opened as a pipe"
        self._requests, self._replies = self.process.stdin, self.process.stdout
        self._unread = b""
        self.said_ready = False

    def ask(self, request: Mapping[str, str]) -> dict[str, Any]:
        """The reply to a request of `checker_process.py`.

        Raises:
            CheckStopped, CheckLost: there is none, and the process is over.
            PluginError: math-verify cannot be loaded there.
        """
        if not self.said_ready:
            first = self._read(_START_SECONDS)
            if "missing" in first:
                self.close()
                raise PluginError(f"reward 'math_verify' cannot load math-verify ({first['missing']}): {INSTALL}")
            self.said_ready = True
        self._write(json.dumps(request).encode() + b"\n")
        return self._read(self.seconds * _PATIENCE)

    def close(self) -> None:
        """End the process, at once where it does not end by itself."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()
        try:
            self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _write(self, line: bytes) -> None:
        try:
            self._requests.write(line)
        except BrokenPipeError:  # it ended while it had nothing to do, so no row is to blame
            raise CheckLost(f"the checker was gone ({self._ending()})") from None

    def _read(self, seconds: float) -> dict[str, Any]:
        """One line, within so many seconds of the clock."""
        pipe, deadline = self._replies.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not _readable(pipe, deadline):
                self.process.kill()
                self.process.wait()
                raise CheckLost(f"the checker gave no answer in {seconds:.0f} s: the machine has no time for it")
            chunk = os.read(pipe, 65536)
            if not chunk:
                raise self._blame()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        content: dict[str, Any] = json.loads(line)
        return content

    def _blame(self) -> CheckStopped | CheckLost:
        """Of the end of the process while an answer was due."""
        ending = self._ending()
        if not self.said_ready:
            return CheckLost(f"the checker did not start ({ending})")
        if self.process.returncode == -signal.SIGPROF:
            return CheckStopped(f"it took more than {self.seconds:g} s of processor time")
        if self.process.returncode in _FROM_OUTSIDE:
            return CheckLost(f"the checker was ended from outside ({ending})")
        return CheckStopped(f"it crashed the checker ({ending})")

    def _ending(self) -> str:
        code = self.process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit {code}"


class CheckerPool:
    """At most `size` processes. Any number of threads may ask; they wait for one another."""

    def __init__(self, size: int, seconds: float) -> None:
        self.size = size
        self.seconds = seconds
        self.live: set[Checker] = set()
        self._open()
        self.close = weakref.finalize(self, _close_all, self.live)  # called at the latest with the pool, or at exit

    def ask(self, request: Mapping[str, str]) -> dict[str, Any]:
        """As of `Checker`. A process that is lost is replaced, and the new one asked once more."""
        if self._owner != os.getpid():  # a forked child must not talk into its parent's pipes
            self.live.clear()
            self._open()
        try:
            return self._ask_one(request)
        except CheckLost:
            return self._ask_one(request)

    def _open(self) -> None:
        self._owner = os.getpid()
        self._slots: queue.LifoQueue[Checker | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._slots.put(None)

    def _ask_one(self, request: Mapping[str, str]) -> dict[str, Any]:
        checker = self._slots.get()
        kept: Checker | None = None
        try:
            if checker is None:
                checker = Checker(self.seconds)
                self.live.add(checker)
            reply = checker.ask(request)
            if not reply["retire"]:
                kept = checker
            return reply
        finally:
            if kept is None and checker is not None:
                checker.close()
                self.live.discard(checker)
            self._slots.put(kept)


def _close_all(live: set[Checker]) -> None:
    for checker in list(live):
        checker.close()


def _readable(pipe: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _environment() -> dict[str, str]:
    """Where to find libraries, in the order of this process, and nothing secret. Hashes are the same every time."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    found_in = os.pathsep.join(path for path in sys.path if path)
    return kept | {"PYTHONPATH": found_in, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
