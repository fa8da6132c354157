"""A judge to try programs with, and an outside world that must be the same after each of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlhf.errors import ResourceError
from rlhf.types import Completion, Prompt, Rollout, Score
from rlhf_code.config import CodeTestsConfig
from rlhf_code.reward import CodeTests

MARK = "hostile-mark"
CONTENT = "SECRET-OF-THE-OUTSIDE"


def rollout(text: str, **columns: object) -> Rollout:
    prompt = Prompt(id="row", text=str(columns.pop("prompt", "Write it.")), metadata=columns)
    return Rollout(prompt=prompt, completion=Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop"))


@pytest.fixture(scope="session", name="rollout")
def _rollout() -> Callable[..., Rollout]:
    return rollout


@dataclass
class Outside:
    """What a program may want to reach. `@CANARY@` and the like in a program become these."""

    folder: Path
    tcp: socket.socket
    udp: socket.socket
    unix: socket.socket
    abstract: socket.socket
    datagrams: socket.socket
    sentinel: subprocess.Popen[bytes]

    def tell(self, program: str) -> str:
        for name, value in {
            "@CANARY@": self.folder / "canary.txt",
            "@FOLDER@": self.folder,
            "@UNIX@": self.folder / "socket",
            "@DATAGRAMS@": self.folder / "datagrams",
            "@ABSTRACT@": f"{MARK}-{os.getpid()}",
            "@TCP@": self.tcp.getsockname()[1],
            "@UDP@": self.udp.getsockname()[1],
            "@PID@": self.sentinel.pid,
            "@TESTS_PID@": os.getpid(),
        }.items():
            program = program.replace(name, str(value))
        return program

    def require_untouched(self, before: os.stat_result) -> None:
        canary = self.folder / "canary.txt"
        after = canary.stat()
        assert canary.read_text() == CONTENT
        for field in ("st_mode", "st_uid", "st_nlink", "st_mtime_ns", "st_ino"):
            assert getattr(after, field) == getattr(before, field), field
        assert sorted(path.name for path in self.folder.iterdir()) == ["canary.txt", "datagrams", "socket"]
        assert self.sentinel.poll() is None
        assert os.getpriority(os.PRIO_PROCESS, self.sentinel.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        for listening in (self.tcp, self.unix, self.abstract):
            with pytest.raises(BlockingIOError):
                listening.accept()
        for receiving in (self.udp, self.datagrams):
            with pytest.raises(BlockingIOError):
                receiving.recv(1)
        for shared in (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path("/")):
            assert not [*shared.glob(f"*{MARK}*")]


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    for parent in (folder, *folder.parents[:3]):  # open to all, so that only the sandbox stands before it
        if parent != Path("/tmp"):
            parent.chmod(0o777)
    (folder / "canary.txt").write_text(CONTENT)
    (folder / "canary.txt").chmod(0o666)
    os.environ["SECRET_KEY"] = CONTENT
    sentinel = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sockets = [
        socket.create_server(("127.0.0.1", 0)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    ]
    sockets[1].bind(("127.0.0.1", 0))
    sockets[2].bind(str(folder / "socket"))
    (folder / "socket").chmod(0o777)
    sockets[3].bind(f"\0{MARK}-{os.getpid()}")
    sockets[4].bind(str(folder / "datagrams"))
    (folder / "datagrams").chmod(0o777)
    for listening in (sockets[2], sockets[3]):
        listening.listen()
    for each in sockets:
        each.setblocking(False)
    yield Outside(folder, *sockets, sentinel)
    sentinel.kill()
    sentinel.wait()
    for each in sockets:
        each.close()
    del os.environ["SECRET_KEY"]


@dataclass
class Trial:
    """Scores programs in one kind of sandbox."""

    isolation: str
    reward: CodeTests
    outside: Outside

    def script(self, source: str, output: str, stdin: str = "") -> Score:
        """Of a program that must print `output`."""
        return self._score(source, [{"input": stdin, "output": output}])

    def functions(self, source: str, *tests: str, **columns: object) -> Score:
        """Of a program whose functions must pass these tests."""
        return self._score(source, [*tests], **columns)

    def _score(self, source: str, tests: list[object], **columns: object) -> Score:
        text = f"```python\n{self.outside.tell(source)}\n```"
        (score,) = self.reward([rollout(text, tests=tests, **columns)])
        return score

    def left_behind(self) -> list[int]:
        """Descendants of the launcher."""
        launcher = self.reward.sandbox._launcher
        assert launcher is not None
        children = Path(f"/proc/{launcher.process.pid}/task/{launcher.process.pid}/children")
        return [int(number) for number in children.read_text().split()]


# The weaker kind is put to the same programs before a release; every change is held to the one that is the default.
_KINDS = ["namespaces", "process"] if os.environ.get("RLHF_TEST_EVERY_METHOD") else ["namespaces"]


@pytest.fixture(scope="session", params=_KINDS)
def _one_trial(request: pytest.FixtureRequest, outside: Outside) -> Iterator[Trial]:
    config = CodeTestsConfig(isolation=request.param, score="share", seconds=3, cpu_seconds=1, memory_mb=256)
    try:
        reward = CodeTests(config, None)  # type: ignore[arg-type] - it asks nothing of the parts
    except ResourceError as error:
        pytest.skip(str(error))
    yield Trial(request.param, reward, outside)
    reward.sandbox.close()


@pytest.fixture
def trial(_one_trial: Trial) -> Iterator[Trial]:
    """A judge; afterwards the outside is as it was, nothing is left running, and an honest program still passes."""
    before = (_one_trial.outside.folder / "canary.txt").stat()
    launcher = _one_trial.reward.sandbox._launcher
    yield _one_trial
    _one_trial.outside.require_untouched(before)
    assert _one_trial.reward.sandbox._launcher is launcher, "the launcher had to be started anew"
    assert _one_trial.script("print(int(input()) + 1)", "42", stdin="41").value == 1
    deadline = time.monotonic() + 5
    while _one_trial.left_behind() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _one_trial.left_behind()
