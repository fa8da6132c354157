"""The reward `code_tests`: what share of a row's tests the program in the completion passes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rlhf.errors import ResourceError
from rlhf.protocols import Parts
from rlhf.types import Rollout, Score
from rlhf_code.cases import COLUMNS, Asserts, Pair, UnusableTests, tests_of
from rlhf_code.config import CodeTestsConfig
from rlhf_code.extract import program_of
from rlhf_code.inside.confinement import Limits
from rlhf_code.sandbox import Sandbox, SandboxError

_LEAST_OUTPUT_BYTES = 1 << 20
# Each loads a module anew, which shows that the interpreter's library can be read.
_PLAIN = "import colorsys\nprint('isolated')"
_THREADED = "import colorsys, threading\nt = threading.Thread(target=print, args=('isolated',))\nt.start()\nt.join()"


class CodeTests:
    """Runs each completion's program in a sandbox: 1 or 0, or the share of the tests that pass.

    A completion that holds no program, or one that fails, crashes, or uses more than it may, has failed its tests and
    scores accordingly. A row whose tests are at fault, and a sandbox that fails, is a `Score` with an error. The part
    `timed_out` is 1 where time ran out, and `no_program` where there was nothing to run.

    Raises:
        ResourceError: when built on a machine that cannot isolate programs as `isolation` asks.
    """

    def __init__(self, config: CodeTestsConfig, parts: Parts) -> None:
        self.config = config
        self.columns = COLUMNS[config.layout]
        limits = Limits(config.isolation, config.cpu_seconds, config.memory_mb << 20)
        self.sandbox = Sandbox(limits, config.seconds)
        self.workers = config.workers or len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
        _require_isolation(self.sandbox)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="code_tests") as pool:
            return list(pool.map(self._judged, rollouts))

    def _judged(self, rollout: Rollout) -> Score:
        try:
            tests = tests_of(rollout.prompt, self.config.layout)
            source = self._program(rollout)
            if source is None:
                return Score(value=0.0, parts={"timed_out": 0.0, "no_program": 1.0})
            if isinstance(tests, Asserts):
                passed, total, timed_out = self._asserted(source, tests)
            else:
                passed, total, timed_out = self._printed(source, tests)
        except UnusableTests as error:
            return Score(error=str(error))
        except SandboxError as error:
            return Score(error=f"the sandbox failed: {error}")
        value = passed / total if self.config.score == "share" else float(passed == total)
        return Score(value=value, parts={"timed_out": float(timed_out), "no_program": 0.0})

    def _program(self, rollout: Rollout) -> str | None:
        unfenced = self.config.unfenced or self.config.continues
        source = program_of(rollout.completion.text, unfenced=unfenced)
        if source is not None and self.config.continues:
            return f"{rollout.prompt.last_user_text}{source}"
        return source

    def _asserted(self, source: str, asserts: Asserts) -> tuple[int, int, bool]:
        """Tests passed, tests there are, and whether time ran out."""
        report = self.sandbox.run_tests(source, asserts.tests, setup=asserts.setup, entry_point=asserts.entry_point)
        if report.ended == "tests":
            raise UnusableTests(f"its tests cannot judge a program: {report.reason}")
        return report.passed, report.tests, report.ended == "timeout"

    def _printed(self, source: str, pairs: Sequence[Pair]) -> tuple[int, int, bool]:
        """The same for a script. Where one failure decides, it is the last that is run."""
        passed, timed_out = 0, False
        for pair in pairs:
            most_bytes = max(_LEAST_OUTPUT_BYTES, 2 * len(pair.output.encode(errors="replace")))
            printed = self.sandbox.run_script(source, pair.input, most_bytes)
            timed_out |= printed.ended == "timeout"
            if printed.ended == "completed" and pair.passes(printed.output):
                passed += 1
            elif self.config.score == "all":
                break
        return passed, len(pairs), timed_out


def _require_isolation(sandbox: Sandbox) -> None:
    """Run one program before anything expensive is built; the way out is part of the message."""
    isolation = sandbox.limits.isolation
    if sys.platform != "linux":
        raise ResourceError(f"reward code_tests: programs are isolated on Linux only, and this is {sys.platform}.")
    way_out = {
        "namespaces": "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_"
        "userns; in a container a seccomp profile that has unshare and mount), or ask for less with isolation: process",
        "process": "it needs Linux 5.13 with Landlock, and seccomp",
    }[isolation]
    try:
        printed = sandbox.run_script(_THREADED if isolation == "namespaces" else _PLAIN, "", _LEAST_OUTPUT_BYTES)
        found = f"a test program did not run ({printed.ended})" if printed.output != b"isolated\n" else ""
    except SandboxError as error:
        found = str(error)
    if found:
        raise ResourceError(
            f"reward code_tests: this machine cannot isolate programs (isolation: {isolation}): {found}; {way_out}."
        )
