"""A reward in a process of its own: one that hangs, exits or eats memory takes nothing with it but its own rows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

from rlhf.config import PartConfig, RewardPart
from rlhf.config.secrets import masked
from rlhf.errors import PluginError, RunError
from rlhf.plugins import PluginSettings, compare_fingerprints
from rlhf.rewards.failures import NOT_ASKED
from rlhf.runtime.reward_wire import event_from_bytes, rollouts_as_bytes
from rlhf.types import Rollout, Score

_START_S = 180.0
_GRACE_S = 1.0
"""After which a call that should have ended its own overlong row is ended from here."""
_LOOK_S = 1.0
_MOST_OUTPUT = 65_536


class HostSetup(PartConfig):
    """All the process is told before it is asked for anything: plain data."""

    part: RewardPart
    where: str
    """`reward` or `cost`, for errors in its options."""
    plugins: PluginSettings
    fingerprints: dict[str, str]
    """Of the plugins of whoever starts it; it must hold the same."""


class RewardProcess:
    """Starts `rlhf.runtime.reward_host` when it is first asked, and again after each end of it that was not asked for.

    Implements `RewardFn`: rows in flight when the process ends or is ended are errors; those not begun are asked anew.
    """

    def __init__(self, setup: HostSetup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._output, self._output_lock = bytearray(), threading.Lock()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        with self._lock:
            scores: dict[int, Score] = {}
            left = list(range(len(rollouts)))
            while left:
                pipe = self._running()
                left = self._asked(pipe, rollouts, left, scores)
            return [scores[row] for row in range(len(rollouts))]

    def start(self) -> None:
        """Be ready before the first question. Raises what is wrong with the reward, or with its plugins there."""
        with self._lock:
            self._running()

    def take_output(self) -> str:
        """What was printed since the last time, at most 64 KiB of it, secrets masked."""
        with self._output_lock:
            text, self._output = bytes(self._output), bytearray()
        return masked(text.decode(errors="replace"))

    def close(self) -> None:
        """End it for good, also where another thread is asking or starting it."""
        self._is_closed = True
        self._end()

    # --- one question ------------------------------------------------------------------------------------------------

    def _asked(
        self, pipe: Connection, rollouts: Sequence[Rollout], rows: list[int], scores: dict[int, Score]
    ) -> list[int]:
        """Ask about `rows`, fill in what comes, and return the rows that were not begun before the process ended."""
        begun: dict[int, float] = {}
        pipe_said = time.monotonic()
        try:
            pipe.send_bytes(rollouts_as_bytes([rollouts[row] for row in rows]))
            while any(row not in scores for row in rows):
                waiting = min((at for row, at in begun.items() if row not in scores), default=pipe_said)
                patience = max(0.0, waiting + self._setup.part.timeout + _GRACE_S - time.monotonic())
                if not pipe.poll(min(patience, _LOOK_S)):
                    if self._process is None or self._process.poll() is not None:  # its children hold the pipe open
                        return self._ended(rows, begun, scores)
                    if patience <= _LOOK_S:
                        return self._overdue(rows, begun, scores)
                    continue
                number, score = event_from_bytes(pipe.recv_bytes())
                pipe_said = time.monotonic()
                if score is None:
                    begun[rows[number]] = time.monotonic()
                else:
                    scores[rows[number]] = score
        except (EOFError, OSError):
            return self._ended(rows, begun, scores)
        return []

    def _overdue(self, rows: list[int], begun: dict[int, float], scores: dict[int, Score]) -> list[int]:
        self._end()
        limit, now = self._setup.part.timeout, time.monotonic()
        for row, at in begun.items():
            if row not in scores and now - at >= limit:
                scores[row] = Score(error=f"took longer than {limit:g} s")
        return self._unjudged(rows, scores, "did not begin in time")

    def _ended(self, rows: list[int], begun: dict[int, float], scores: dict[int, Score]) -> list[int]:
        how = self._how_it_ended()
        self._end()
        for row in begun.keys() - scores.keys():
            scores[row] = Score(error=f"its process {how}")
        return self._unjudged(rows, scores, f"its process {how}")

    def _unjudged(self, rows: list[int], scores: dict[int, Score], why: str) -> list[int]:
        """The rows to ask anew. Where none was judged it would go the same way again, so they are errors; where a
        failure ends the run nobody waits for the rest, each of which may take its time, too.
        """
        left = [row for row in rows if row not in scores]
        if len(left) == len(rows):
            scores |= {row: Score(error=why) for row in left}
            return []
        if self._setup.part.on_error == "raise":
            scores |= {row: Score(error=NOT_ASKED) for row in left}
            return []
        return left

    # --- the process -------------------------------------------------------------------------------------------------

    def _running(self) -> Connection:
        if self._is_closed:
            raise RunError(f"reward {self._setup.part.type!r}: its process was closed")
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it went while nobody was asking
        return self._pipe if self._pipe is not None else self._started()

    def _started(self) -> Connection:
        ours, theirs = Pipe()
        # A session of its own: Ctrl-C is the run's to handle, and its children can be ended with it.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
            [sys.executable, "-m", "rlhf.runtime.reward_host", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        theirs.close()
        threading.Thread(target=self._read_output, args=(self._process,), daemon=True).start()
        self._pipe = ours
        try:
            ours.send_bytes(self._setup.model_dump_json().encode())
            if not ours.poll(_START_S):
                raise RunError(f"reward {self._setup.part.type!r}: its process was not ready within {_START_S:g} s")
            ready = json.loads(ours.recv_bytes())
        except (EOFError, OSError):
            how, said = self._how_it_ended(), self.take_output().strip()
            self._end()
            raise RunError(
                f"reward {self._setup.part.type!r}: its process {how} before it was ready: {said[-500:]}"
            ) from None
        except RunError:
            self._end()
            raise
        self._require_well(ready)
        if self._is_closed:
            self._end()
            raise RunError(f"reward {self._setup.part.type!r}: its process was closed")
        return ours

    def _require_well(self, ready: dict[str, Any]) -> None:
        if ready["error"] is not None:
            self._end()
            raise PluginError(masked(ready["error"]))
        try:
            compare_fingerprints(self._setup.fingerprints, ready["fingerprints"], "the reward's process")
        except PluginError:
            self._end()
            raise

    def _read_output(self, process: subprocess.Popen[bytes]) -> None:
        """Always read, so that a talkative reward is not held up; kept as far as there is room."""
        assert process.stdout is not None
        with process.stdout as stream:
            while chunk := stream.read1(65_536):  # type: ignore[attr-defined]
                with self._output_lock:
                    self._output += chunk[: max(0, _MOST_OUTPUT - len(self._output))]

    def _how_it_ended(self) -> str:
        process = self._process
        if process is None:
            return "was closed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=2)
            return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return "closed its pipe"

    def _end(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if pipe is not None:
            pipe.close()
