"""The processes behind `math_verify`: they are replaced when they die, and gone when whoever started them is."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import PluginError
from rlhf_math import checkers
from rlhf_math.checkers import CheckerPool, CheckLost, CheckStopped

HANGS = {"reference": "72", "answer": "9^{9^{9^{9}}}"}
RIGHT = {"reference": "72", "answer": r"\frac{144}{2}"}


@pytest.fixture
def pool() -> Iterator[CheckerPool]:
    made = CheckerPool(size=2, seconds=1.0)
    yield made
    made.close()


def pids(pool: CheckerPool) -> list[int]:
    return [checker.process.pid for checker in pool.live]


def is_alive(pid: int) -> bool:
    """Zombies are dead: who reaps the children of a dead process is the machine's business."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def all_gone(numbers: list[int], within: float = 20.0) -> bool:
    deadline = time.monotonic() + within
    while any(map(is_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, numbers))


def test_one_that_hangs_is_ended_and_replaced(pool: CheckerPool) -> None:
    assert pool.ask(RIGHT)["equal"]
    (first,) = pids(pool)
    with pytest.raises(CheckStopped, match="more than 1 s of processor time"):
        pool.ask(HANGS)
    assert all_gone([first])
    assert pool.ask(RIGHT)["equal"]
    assert pids(pool) != [first]


def test_no_more_processes_than_said_however_many_ask(pool: CheckerPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: pool.ask(RIGHT)["equal"], range(32)))
    assert replies == [True] * 32
    assert len(pids(pool)) <= 2


def test_one_killed_from_outside_is_replaced_and_no_row_blamed(pool: CheckerPool) -> None:
    pool.ask(RIGHT)
    os.kill(pids(pool)[0], signal.SIGKILL)  # while it has nothing to do
    assert pool.ask(RIGHT)["equal"]
    with killed_while_busy(pool, times=1), pytest.raises(CheckStopped):
        pool.ask(HANGS)  # asked again, and this time it is the row that ends it
    with killed_while_busy(pool, times=2), pytest.raises(CheckLost, match="ended from outside"):
        pool.ask(HANGS)


@contextlib.contextmanager
def killed_while_busy(pool: CheckerPool, times: int) -> Iterator[None]:
    """Kills so many processes of the pool, one after the other, once each has burned some time on a request."""

    def kill() -> None:
        killed: list[int] = []
        while len(killed) < times:
            for pid in pids(pool):
                if pid not in killed and is_ready(pool, pid):
                    time.sleep(0.2)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join(30)


def is_ready(pool: CheckerPool, pid: int) -> bool:
    return any(checker.process.pid == pid and checker.said_ready for checker in pool.live)


def test_a_stopped_process_is_given_up_as_lost(pool: CheckerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.ask(RIGHT)
    monkeypatch.setattr(checkers, "_PATIENCE", 0.5)
    (checker,) = pool.live
    os.kill(checker.process.pid, signal.SIGSTOP)
    with pytest.raises(CheckLost, match="the machine has no time for it"):
        checker.ask(RIGHT)
    assert all_gone([checker.process.pid])


def test_one_that_cannot_start_blames_no_row(pool: CheckerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkers, "_PROGRAM", Path("nowhere.py"))
    with pytest.raises(CheckLost, match=r"did not start \(exit 2\)"):
        pool.ask(RIGHT)


def test_a_library_that_cannot_be_loaded_says_how_to_install_it(
    pool: CheckerPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('no antlr4 here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"\(no antlr4 here\): pip install 'math-verify\[antlr4_13_2\]'"):
        pool.ask(RIGHT)


def test_one_that_has_grown_makes_room(pool: CheckerPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = checkers._PROGRAM.read_text()
    assert "_RETIRES_AT = 512 * 1024**2" in source
    program = tmp_path / "small.py"
    program.write_text(source.replace("_RETIRES_AT = 512 * 1024**2", "_RETIRES_AT = 1"))
    monkeypatch.setattr(checkers, "_PROGRAM", program)
    assert [pool.ask(RIGHT)["equal"] for _ in range(2)] == [True, True]
    assert pids(pool) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are kept on Linux only")
def test_memory_is_limited(pool: CheckerPool) -> None:
    pool.ask(RIGHT)
    limits = Path(f"/proc/{pids(pool)[0]}/limits").read_text()
    assert str(2 * 1024**3) in next(line for line in limits.splitlines() if line.startswith("Max address space"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_secrets_stay_here(pool: CheckerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "sesame")
    pool.ask(RIGHT)
    assert b"sesame" not in Path(f"/proc/{pids(pool)[0]}/environ").read_bytes()


def test_a_forked_child_has_processes_of_its_own(pool: CheckerPool) -> None:
    pool.ask(RIGHT)
    child = os.fork()
    if child == 0:
        before, answer = pids(pool), pool.ask(RIGHT)["equal"]
        after = pids(pool)
        pool.close()
        os._exit(0 if answer and not set(before) & set(after) else 1)
    assert pool.ask(RIGHT)["equal"]
    assert os.waitpid(child, 0)[1] == 0
    assert pool.ask(RIGHT)["equal"]


def _score_in_a_daemon(answers: Any) -> None:
    answers.put(CheckerPool(size=1, seconds=1.0).ask(RIGHT))


def test_a_daemonic_process_may_use_it() -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_score_in_a_daemon, args=(answers,), daemon=True)
    process.start()
    assert answers.get(timeout=60)["equal"]
    process.join(20)
    assert process.exitcode == 0


SCRIPT = """
    import sys, threading, time
    from rlhf_math.checkers import CheckerPool

    pool = CheckerPool(size=2, seconds=3.0)
    hangs, right = {hangs!r}, {right!r}
    pool.ask(right)
    if sys.argv[1] == "busy":
        threading.Thread(target=pool.ask, args=(hangs,), daemon=True).start()
        while len(pool.live) < 1:
            time.sleep(0.01)
        time.sleep(0.3)
    print(*[checker.process.pid for checker in pool.live], flush=True)
    if sys.argv[2] == "waits":
        time.sleep(600)
    sys.exit(int(sys.argv[2] == "fails"))
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize(
    ("ending", "sent"), [("exits", None), ("fails", None), ("waits", signal.SIGKILL), ("waits", signal.SIGTERM)]
)
def test_nothing_is_left_of_a_process_that_ended(state: str, ending: str, sent: signal.Signals | None) -> None:
    script = textwrap.dedent(SCRIPT).format(hangs=HANGS, right=RIGHT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script, state, ending]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        left = [int(word) for word in run.stdout.readline().split()]
        assert left
        if sent is not None:
            run.send_signal(sent)
        _, said = run.communicate(timeout=60)
    assert run.returncode == (-sent if sent is not None else int(ending == "fails"))
    assert said == ""
    assert all_gone(left)


@pytest.mark.timeout(300)
def test_a_ray_actor_may_use_it() -> None:
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        from rlhf.types import Completion, Prompt, Rollout

        class Judge:
            def __init__(self) -> None:
                from rlhf_math.verified import Verified, VerifiedConfig

                self.reward: Any = Verified(VerifiedConfig(seconds=1.0), None)  # type: ignore[arg-type]

            def judge(self, rollouts: Any) -> Any:
                return self.reward(rollouts), [checker.process.pid for checker in self.reward.pool.live]

        texts = [r"\boxed{72}", r"\boxed{9^{9^{9^9}}}", r"\boxed{71}"]
        said = [Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop") for text in texts]
        prompt = Prompt(id="0", text="?", reference="72")
        actor = ray.remote(Judge).remote()
        scores, children = ray.get(actor.judge.remote([Rollout(prompt=prompt, completion=text) for text in said]))
        assert [score.value for score in scores] == [1.0, 0.0, 0.0]
        assert children
        ray.kill(actor)
        assert all_gone(children)
    finally:
        ray.shutdown()
