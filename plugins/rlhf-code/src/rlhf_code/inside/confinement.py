"""From a forked copy of the launcher to a process that can harm nobody: namespaces, files, limits, system calls."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import Literal, NoReturn

from rlhf_code.inside import linux, seccomp, view

Isolation = Literal["namespaces", "process"]
_THREADS = 64
_OPEN_FILES = 64
_ALL_OPEN_FILES = 4096
"""The launcher opens a few dozen, and is given none but three when it starts."""
_NOWHERE = 2
"""The launcher's own standard error: /dev/null."""
_TEMPORARY_BYTES = 16 << 20


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    isolation: Isolation
    cpu_seconds: int
    memory_bytes: int


@dataclass(frozen=True)
class Settled:
    """What the launcher hands to its copies."""

    launcher: int
    """Its process number."""
    proc: int
    """The machine's `/proc`, which is not in the view; a copy writes its user map there and closes it."""


@dataclass(frozen=True)
class Channels:
    """The descriptors of one run, in the order in which they arrive."""

    status: int
    """A packet socket to the parent: first the process's handle, then `ready` or what went wrong, then closed."""
    job: int
    stdin: int
    stdout: int
    report: int
    """Where a judge answers; a program's copy is closed before it starts."""


def settle(isolation: Isolation) -> Settled:
    """What the launcher does once, before it forks: out of sight of the machine's files, and no longer root."""
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    if isolation == "process":
        view.look_only()
    else:
        view.move_in(proc)
        linux.stop_being_root()
    return Settled(os.getpid(), proc)


def confine(channels: Channels, limits: Limits, settled: Settled) -> Channels:
    """Returns in the confined process only, with the descriptors it keeps; nothing else of the launcher is open.

    Two forks: the first process makes the namespaces, the second is process 1 in them, so that with its end the kernel
    ends everything else there. The first one stays only to take the second along when it dies.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if limits.isolation == "namespaces":
        user, group = os.geteuid(), os.getegid()
        linux.die_first(settled.proc)
        linux.unshare(linux.CLONE_ALL)
        linux.map_one_user(user, group, settled.proc)
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != settled.launcher:  # it died before this process asked to die with it
        os._exit(1)
    alive, held = os.pipe()
    pid = os.fork()
    if pid:
        os.close(alive)
        _stand_by(pid, channels, held)
    os.close(held)
    linux.die_with_parent(signal.SIGKILL)
    os.set_blocking(alive, False)
    if _is_closed(alive):  # the same, of the first process
        os._exit(1)
    os.setsid()
    stdin = channels.stdin
    if limits.isolation == "namespaces":
        stdin = view.furnish(stdin, _TEMPORARY_BYTES)
        linux.set_hostname("sandbox")
    _limit(limits)
    linux.drop_capabilities()
    linux.forbid_new_privileges()
    kept = _arrange(channels, stdin)
    seccomp.install(alone=limits.isolation == "process")
    return kept


def _stand_by(pid: int, channels: Channels, held: int) -> NoReturn:
    """Hand the second process's handle to the parent, which kills by it, and wait for its end."""
    with socket.socket(fileno=channels.status) as status:
        socket.send_fds(status, [b"handle"], [os.pidfd_open(pid)])
    os.closerange(0, held)  # which stays open while this process lives
    os.closerange(held + 1, _ALL_OPEN_FILES)
    os.waitpid(pid, 0)
    os._exit(0)


def _is_closed(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _limit(limits: Limits) -> None:
    sizes = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_FSIZE: _TEMPORARY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if limits.isolation == "namespaces":  # counted in the user namespace; outside, all of the user's would count
        sizes[resource.RLIMIT_NPROC] = _THREADS
    for limit, size in sizes.items():
        hard = resource.getrlimit(limit)[1]
        allowed = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(limit, (allowed, allowed))


def _arrange(channels: Channels, stdin: int) -> Channels:
    """Give the descriptors low numbers, 0 and 1 the standard ones, 2 to nowhere, and close every other."""
    sources = [stdin, channels.stdout, _NOWHERE, channels.status, channels.job, channels.report]
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 32) for fd in sources]  # off the numbers they are to have
    for number, fd in enumerate(apart):
        os.dup2(fd, number, inheritable=False)
    os.closerange(len(sources), _ALL_OPEN_FILES)
    return Channels(status=3, job=4, stdin=0, stdout=1, report=5)
