"""A run of the command line in a process of its own, whose processes can be found and killed one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# Engines that leave the pid of the process that built them, and a hook that says when a step is done.
MARKS = """
import os
import time
from pathlib import Path

from rlhf import hookimpl
from rlhf.engines.settings import DeepSpeedConfig, TorchConfig, TransformersRolloutConfig

MARKS = Path({folder!r})


def marked(config, spec):
    from rlhf.engines.torch_engine import TorchEngine

    (MARKS / spec.role).write_text(str(os.getpid()))
    return TorchEngine(config, spec)


def marked_rollout(config, model):
    from rlhf.engines.transformers_rollout import TransformersRollout

    (MARKS / "rollout").write_text(str(os.getpid()))
    return TransformersRollout(config, model)


@hookimpl
def register_train_engines(register):
    register("marked", marked, config=TorchConfig)


@hookimpl
def register_rollout_engines(register):
    register("marked_rollout", marked_rollout, config=TransformersRolloutConfig)


@hookimpl
def on_step_end(step, metrics):
    (MARKS / "driver").write_text(str(os.getpid()))
    partial = MARKS / "step.partial"
    partial.write_text(str(step))
    partial.replace(MARKS / "step")
"""


class WatchedRun:
    """`python -m rlhf train` on a recipe; every process that comes of it carries a mark in its environment."""

    def __init__(self, recipe: Mapping[str, Any], folder: Path, *arguments: str) -> None:
        self.folder, self.out = folder, folder / "run"
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True, exist_ok=True)
        for mark in self.marks.iterdir():
            mark.unlink()
        plugin = folder / "marks_plugin.py"
        plugin.write_text(MARKS.replace("{folder!r}", repr(str(self.marks))))
        paths = [*recipe.get("plugins", {}).get("paths", ()), str(plugin)]
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump({**recipe, "plugins": {"paths": paths}}, sort_keys=False))
        self._tag = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlhf", "train", str(path), "--out", str(self.out), *arguments],
            env={**os.environ, "RLHF_TEST_RUN": self._tag, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_step(self, step: int, seconds: float = 200) -> None:
        """Until the driver has finished that step."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended before step {step}: {self.process.communicate()[1]}")
            mark = self.marks / "step"
            if mark.is_file() and int(mark.read_text()) >= step:
                return
            time.sleep(0.1)
        self.stop()
        raise AssertionError(f"no step {step} within {seconds} s")

    def kill(self, role: str) -> None:
        """`kill -9` of the process that holds the role."""
        os.kill(int((self.marks / role).read_text()), signal.SIGKILL)

    def finish(self, seconds: float) -> tuple[int, str]:
        """Exit code and standard error; fails where the run has not ended by then."""
        try:
            _, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run was still there after {seconds} s: {self.stop()}") from None
        return self.process.returncode, errors

    def left_behind(self, seconds: float = 10) -> dict[int, str]:
        """Processes of the run that are still there after a moment, by pid."""
        deadline = time.monotonic() + seconds
        while (alive := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return alive

    def stop(self) -> str:
        """End whatever is left, for the sake of the tests that follow; what it had said."""
        for pid in self._alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return str(self.process.communicate()[1])

    def _alive(self) -> dict[int, str]:
        mark = f"RLHF_TEST_RUN={self._tag}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended meanwhile, or belongs to another user
        return found


def error_of(errors: str) -> str:
    """The line that says why the run failed: the first of the error, after the progress lines."""
    lines = [line for line in errors.splitlines() if line.startswith(("failed: ", "error: ", "interrupted"))]
    assert lines, errors
    return lines[0]
