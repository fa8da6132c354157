"""What a guest leaves behind in the process it shares: output, settings, random numbers, threads, processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from rlhf.testing.findings import fail
from rlhf.testing.verdicts import excerpt

_CALLS = 6
_GRACE_S = 1.0  # a thread that has done its work needs a moment to end
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)


class Output:
    """What was written to standard output."""

    text = ""


@contextmanager
def captured_stdout() -> Iterator[Output]:
    """Keep what this process and its children write to standard output, through Python or past it."""
    output = Output()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            with redirect_stdout(file):
                yield output
        finally:
            file.flush()
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            output.text = file.read()


def require_quiet(output: Output) -> str:
    """Fail where something was written: standard output belongs to the command, which may be printing JSON."""
    if output.text:
        fail(f"it wrote {excerpt(output.text, 60)!r} to standard output; use the module `logging`")
    return ""


class Settings:
    """What belongs to the process and not to a guest, as it was when this was made."""

    def __init__(self) -> None:
        self._before = _settings()

    def require_unchanged(self) -> str:
        """Fail for the first thing that is not as it was."""
        for name, now in _settings().items():
            before = self._before.get(name, now)
            if now != before:
                fail(f"it changed {name}{_difference(before, now)}")
        return ""


class RandomNumbers:
    """The generators every library of the process draws from, as they were when this was made."""

    def __init__(self) -> None:
        self._before = _generators()

    def require_unchanged(self) -> str:
        """Fail where somebody drew or seeded: a run could then not be repeated or resumed."""
        for name, now in _generators().items():
            if self._before.get(name, now) != now:
                fail(f"it drew from or seeded {name}; use a generator of its own, as random.Random(seed)")
        return ""


def require_nothing_left(call: Callable[[], Any]) -> str:
    """Fail where every call leaves a thread or a process more than the one before. A pool that is kept is no leak."""
    call()
    call()
    threads, processes = threading.active_count(), _num_children()
    for _ in range(_CALLS):
        call()
    deadline = time.monotonic() + _GRACE_S
    while _grown(threads, processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    grown = _grown(threads, processes)
    if grown:
        fail(f"{_CALLS} calls left {grown} more behind; end each, or keep a pool of them")
    return ""


def _grown(threads: int, processes: int) -> str:
    """In words, how many more there are; one or two may be a pool that is still filling."""
    more_threads, more_processes = threading.active_count() - threads, _num_children() - processes
    if more_processes >= _CALLS // 2:
        return f"{more_processes} processes"
    return f"{more_threads} threads" if more_threads >= _CALLS // 2 else ""


def _num_children() -> int:
    """Child processes, those that ended and were not waited for among them (where Linux tells)."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:
        return len(multiprocessing.active_children())
    return sum(len(path.read_text().split()) for path in lists if path.exists())


def _settings() -> dict[str, Any]:
    found: dict[str, Any] = {
        "the working folder": str(Path.cwd()),
        "the environment": dict(os.environ),
        "the recursion limit": sys.getrecursionlimit(),
        "sys.path": list(sys.path),
    }
    handlers = {f"the handler of {number.name}": signal.getsignal(number) for number in _SIGNALS}
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_default_dtype"):
        found["torch's default dtype"] = torch.get_default_dtype()
        found["torch's number of threads"] = torch.get_num_threads()
        found["torch's gradient mode"] = torch.is_grad_enabled()
    return found | handlers


def _generators() -> dict[str, Any]:
    found: dict[str, Any] = {"Python's `random`": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and hasattr(numpy, "random"):
        name, keys, *rest = numpy.random.get_state()
        found["numpy's `random`"] = (name, keys.tobytes(), *rest)
    if torch is not None and hasattr(torch, "get_rng_state"):
        found["torch's generator"] = torch.get_rng_state().tolist()
    return found


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict):
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return f": {', '.join(names)}"  # names only: values may be secrets
    if isinstance(before, list):
        return ""
    return f", from {excerpt(before, 40)} to {excerpt(now, 40)}"
