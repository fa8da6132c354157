"""The launcher's process, the confined processes it forks, and handles to end them by."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from rlhf_code.inside.confinement import Limits

_START_S = 60.0
"""A copy is confined in milliseconds; a machine may be very busy."""
_END_S = 30.0
_BOOT = (
    "import sys; sys.path.append(sys.argv.pop()); from rlhf_code.inside.launcher import main; sys.path.pop(); main()"
)
_PYTHON = ("-S", "-s", "-P", "-B", "-c", _BOOT)
# Nothing of our own environment; a fixed seed makes the order of sets, and with it a verdict, the same every time.
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class SandboxError(Exception):
    """The sandbox itself failed: nothing is known about the program."""


class Launcher:
    """An interpreter that forks confined copies of itself; it ends when this object is closed, or its process is."""

    def __init__(self, limits: Limits) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source = str(Path(__file__).parents[1])
        command = [sys.executable, *_PYTHON, json.dumps(asdict(limits)), source]
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self.control = ours
        self.close = weakref.finalize(self, _end, ours, self.process)
        ours.settimeout(_START_S)
        answer = ours.recv(1024)
        if answer != b"ready":
            self.close()
            raise SandboxError(answer.removeprefix(b"error ").decode(errors="replace") or "the launcher did not start")
        ours.settimeout(None)

    def start(self, channels: Sequence[io.FileIO]) -> Confined:
        """Ask for a copy with these descriptors; `BrokenPipeError` where the launcher is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self.control, [b"run"], [theirs.fileno(), *(file.fileno() for file in channels)])
        except OSError:
            ours.close()
            raise
        return Confined(ours, self)


class Confined:
    """One confined process. Leaving its context ends it, and with it everything it started."""

    def __init__(self, status: socket.socket, launcher: Launcher) -> None:
        self.status = status
        self.launcher = launcher
        self.handle: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self.status:
            if self.handle is None:  # left before it was confined
                with contextlib.suppress(SandboxError):
                    self.wait_confined()
        if self.handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
            ended = self.wait_ended(time.monotonic() + _END_S)
            os.close(self.handle)
            self.handle = None
            if not ended and error is None:
                raise SandboxError(f"a program was killed and did not end within {_END_S:g} s")

    def wait_confined(self) -> None:
        """Return once the process is confined and about to run its job."""
        deadline = time.monotonic() + _START_S
        ready = False
        while not (ready and self.handle is not None):
            self.status.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                message, fds, _, _ = socket.recv_fds(self.status, 1024, 1)
            except TimeoutError:
                raise SandboxError(f"no process was confined within {_START_S:g} s") from None
            if fds:
                self.handle = fds[0]
            if message == b"ready":
                ready = True
            elif not message:
                raise SandboxError("the process ended before it was confined")
            elif message.startswith(b"error "):
                raise SandboxError(message.removeprefix(b"error ").decode(errors="replace"))

    def wait_ended(self, deadline: float) -> bool:
        """Whether the process has ended by then."""
        assert self.handle is not None
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

    def require_launcher(self) -> None:
        """Raise `SandboxError` where the launcher is gone: it takes its copies along, whatever they were doing."""
        if self.launcher.process.poll() is not None:
            raise SandboxError("the launcher of programs died; the machine may be out of memory")


def in_memory(data: bytes) -> io.FileIO:
    """A file without a name, to be handed over."""
    file = io.FileIO(os.memfd_create("job", os.MFD_CLOEXEC), "r+")
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
