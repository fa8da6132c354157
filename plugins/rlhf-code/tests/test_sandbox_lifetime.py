"""The machine, and the processes around programs: where they cannot be isolated, and when something is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.validation import validated
from rlhf_code.config import CodeTestsConfig
from rlhf_code.inside import seccomp
from rlhf_code.reward import CodeTests

SLEEPS = "```python\nimport time\ntime.sleep(60)\n```"
BUILD = "from rlhf_code.reward import CodeTests; from rlhf_code.config import CodeTestsConfig as C; "


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until_gone(pids: list[int]) -> list[int]:
    deadline = time.monotonic() + 10
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [pid for pid in pids if _is_running(pid)]


def _tree(pid: int) -> list[int]:
    children = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(below for child in children for below in _tree(child))]


def test_a_machine_without_user_namespaces_is_refused_in_one_line() -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare(1) to take user namespaces away")
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec "
    build = f"{BUILD}CodeTests(C(), None)"
    command = ["unshare", "-Ur", "sh", "-c", forbid + f'"{sys.executable}" -c "{build}"']
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("this machine has none to take away")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rlhf.errors.ResourceError: reward code_tests: this machine cannot isolate programs")
    assert "isolation: process" in last


def test_isolation_process_works_there() -> None:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare(1) to take user namespaces away")
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec "
    build = f"{BUILD}CodeTests(C(isolation='process'), None); print('built')"
    command = ["unshare", "-Ur", "sh", "-c", forbid + f'"{sys.executable}" -c "{build}"']
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if "unshare failed" in done.stderr or "Landlock" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.stdout == "built\n", done.stderr


def test_what_is_killed_takes_everything_along(tmp_path: Path) -> None:
    """The worker is killed with a program running: neither launcher nor program stays."""
    script = tmp_path / "worker.py"
    script.write_text(
        f"{BUILD}\nfrom rlhf.types import *\nimport threading, time\n"
        "reward = CodeTests(C(seconds=60), None)\n"
        "row = Rollout(prompt=Prompt(id='0', text='', metadata={'tests': [{'input': '', 'output': 'x'}]}),\n"
        f"  completion=Completion(token_ids=(), logprobs=(), text={SLEEPS!r}, finish_reason='stop'))\n"
        "threading.Thread(target=reward, args=([row],), daemon=True).start()\ntime.sleep(1)\n"
        "print(reward.sandbox._launcher.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    worker = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=_environment())
    assert worker.stdout is not None
    tree = _tree(int(worker.stdout.readline()))
    assert len(tree) == 3  # the launcher, the process that made the namespaces, the program
    worker.kill()
    worker.communicate()
    assert not _wait_until_gone(tree)


def test_a_launcher_that_was_killed_is_an_error_and_then_started_anew(rollout: Any) -> None:
    reward = CodeTests(CodeTestsConfig(seconds=60), None)  # type: ignore[arg-type]
    row = rollout(SLEEPS, tests=[{"input": "", "output": "x"}])
    scores: list[Any] = []
    thread = threading.Thread(target=lambda: scores.extend(reward([row])))
    thread.start()
    time.sleep(1)
    launcher = reward.sandbox._launcher
    assert launcher is not None
    tree = _tree(launcher.process.pid)
    os.kill(launcher.process.pid, signal.SIGKILL)
    thread.join(30)
    assert "the launcher of programs died" in scores[0].error
    assert not _wait_until_gone(tree)
    assert reward([rollout("```python\nprint('x')\n```", tests=[{"input": "", "output": "x"}])])[0].value == 1
    reward.sandbox.close()


def test_descriptors_and_processes_do_not_pile_up(rollout: Any) -> None:
    reward = CodeTests(CodeTestsConfig(workers=4), None)  # type: ignore[arg-type]
    rows = [rollout("```python\ndef f(): return 1\n```", tests=["assert f() == 1"]) for _ in range(20)]
    reward(rows)
    before = len([*Path("/proc/self/fd").iterdir()])
    reward(rows)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    launcher = reward.sandbox._launcher
    assert launcher is not None
    assert len([*Path(f"/proc/{launcher.process.pid}/fd").iterdir()]) < 16
    reward.sandbox.close()
    assert launcher.process.poll() == 0


def test_an_unused_reward_ends_its_launcher() -> None:
    reward = CodeTests(CodeTestsConfig(), None)  # type: ignore[arg-type]
    assert reward.sandbox._launcher is not None
    process = reward.sandbox._launcher.process
    del reward
    assert process.poll() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "none"}, "reward.isolation"),
        ({"second": 3}, "Did you mean 'seconds'?"),
        ({"memory_mb": 8}, "reward.memory_mb"),
        ({"seconds": 0}, "reward.seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validated(CodeTestsConfig, options, "reward")


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_numbers_of_system_calls_are_the_kernels(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header}")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    ours = seccomp.REFUSED | seccomp.ATTRIBUTES_OF_FILES | seccomp.LOOKED_AT
    for name, numbers in ours.items():
        number = numbers[column]
        if name in defined:
            assert number == int(defined[name]), name
        else:
            assert number is None or number >= 424, name  # newer than this machine's headers


@pytest.mark.ray
def test_inside_a_ray_actor(rollout: Any) -> None:
    ray = pytest.importorskip("ray")

    class Judge:
        def __init__(self) -> None:
            self.reward = CodeTests(CodeTestsConfig(workers=2), None)  # type: ignore[arg-type]

        def scores(self, rows: list[Any]) -> list[float | None]:
            return [score.value for score in self.reward(rows)]

    ray.init(
        num_cpus=1,
        include_dashboard=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": _environment()["PYTHONPATH"]}},
    )
    try:
        judge = ray.remote(Judge).remote()
        texts = ["def f(): return 1", "def f(): return 2", "import os; os._exit(0)", "while True: pass"]
        rows = [rollout(f"```python\n{text}\n```", tests=["assert f() == 1"]) for text in texts]
        assert ray.get(judge.scores.remote(rows), timeout=120) == [1.0, 0.0, 0.0, 0.0]
        assert ray.get(judge.scores.remote(rows[:2]), timeout=120) == [1.0, 0.0]
    finally:
        ray.shutdown()
