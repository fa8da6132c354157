"""A small interpreter that forks one confined copy of itself for each program, so that none waits for Python to start.

It never reads a program: descriptors pass through it, and the copy reads them once it is confined. So no copy can find
an earlier program, its tests or its inputs in the memory it inherits.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator

from rlhf_code.inside import confinement, judge, program

_CONTROL = 0
_NUM_CHANNELS = 5
# What programs import most, once for all of them.
_WARM = (
    "bisect collections copy datetime decimal fractions functools heapq itertools math operator random re string typing"
)


def main() -> None:
    """Serve until the parent closes its end of standard input; a copy returns from `_next_copy` and runs its job."""
    limits = confinement.Limits(**json.loads(sys.argv[1]))
    for name in _WARM.split():
        __import__(name)
    os.environ.clear()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies are reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's to handle, and it closes our input
    with socket.socket(fileno=_CONTROL) as control:
        with _telling(_CONTROL):
            settled = confinement.settle(limits.isolation)
        control.send(b"ready")
        channels = _next_copy(control, limits, settled)
        control.detach()  # already closed in here
    _run(json.loads(_whole(channels.job)), channels)


def _next_copy(
    control: socket.socket, limits: confinement.Limits, settled: confinement.Settled
) -> confinement.Channels:
    """Fork a copy for each request; returns in the copy, confined."""
    while True:
        request, fds, _, _ = socket.recv_fds(control, 16, _NUM_CHANNELS)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            channels = confinement.Channels(*fds)
            with _telling(channels.status):
                kept = confinement.confine(channels, limits, settled)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.write(kept.status, b"ready")
            os.close(kept.status)
            return kept
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def _telling(fd: int) -> Iterator[None]:
    """Tell the parent what the machine refused, and end."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):  # the parent may be gone
            os.write(fd, f"error {error.strerror or error}".encode())
        os._exit(1)


def _run(job: dict[str, object], channels: confinement.Channels) -> None:
    random.seed(0)  # a program's luck is the same each time, and so is its score
    source = str(job.get("source", ""))
    if job["role"] == "script":
        os.close(channels.report)
        program.run_script(source)
        return
    calls_in, calls_out = os.dup(channels.stdin), os.dup(channels.stdout)
    os.dup2(2, 0)
    os.dup2(2, 1)
    if job["role"] == "functions":
        os.close(channels.report)
        program.serve_functions(source, calls_in, calls_out)
        return
    judge.Judge(calls_in, calls_out, channels.report).judge(**job["tests"])  # type: ignore[arg-type]


def _whole(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
