"""What runs in the process of a reward: `python -m rlhf.runtime.reward_host FD`, started by `reward_process`.

It is told over a pipe which plugins to load and which reward to build, says that it is ready, and then judges one list
of rollouts after the other, row by row as they are done. It ends with whoever started it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rlhf.config.secrets import masked
from rlhf.errors import UserError
from rlhf.plugins import load_plugins
from rlhf.rewards.asking import answered
from rlhf.rewards.building import JUDGES, PlainParts, build_reward
from rlhf.runtime.reward_process import HostSetup
from rlhf.runtime.reward_wire import event_as_bytes, rollouts_from_bytes
from rlhf.types import Rollout, Score

if TYPE_CHECKING:
    from rlhf.protocols import RewardFn

_GIB = 2**30


def main() -> None:
    """Serve until the pipe closes."""
    pipe = Connection(int(sys.argv[1]))
    setup = HostSetup.model_validate_json(pipe.recv_bytes())
    try:
        plugins = load_plugins(setup.plugins, built_ins=JUDGES)
        plugins.require_healthy()
        reward = build_reward(setup.part, plugins.registry, PlainParts(plugins.registry), setup.where)
    except Exception as error:  # noqa: BLE001 - said over there, in one line
        said = str(error) if isinstance(error, UserError) else traceback.format_exc()
        pipe.send_bytes(json.dumps({"error": said, "fingerprints": {}}).encode())
        return
    _limit_memory(setup.part.memory)
    pipe.send_bytes(json.dumps({"error": None, "fingerprints": plugins.fingerprints(guests_only=True)}).encode())
    questions: SimpleQueue[Sequence[Rollout]] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, questions), daemon=True).start()
    mine = os.getpid()
    while True:
        _judge(reward, questions.get(), pipe, mine)


def _listen(pipe: Connection, questions: SimpleQueue[Sequence[Rollout]]) -> None:
    """Beside the reward, which may never return: so that the end of the run is the end of this process."""
    try:
        while True:
            questions.put(rollouts_from_bytes(pipe.recv_bytes()))
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _judge(reward: RewardFn, rollouts: Sequence[Rollout], pipe: Connection, mine: int) -> None:
    try:
        for row, score in answered(reward, rollouts):
            if os.getpid() != mine:
                os._exit(0)  # the reward forked, and this is the copy: one of the two is to speak
            pipe.send_bytes(event_as_bytes(row, score and _masked(score)))
    except UserError as error:  # a mistake in the recipe that shows only now
        for row in range(len(rollouts)):
            pipe.send_bytes(event_as_bytes(row, Score(error=masked(str(error)))))
    sys.stdout.flush()


def _masked(score: Score) -> Score:
    if score.error is None:
        return score
    return replace(score, error=masked(score.error), details=masked(score.details))


def _limit_memory(gib: float) -> None:
    """What is allocated beyond raises MemoryError here, before the machine ends whichever process it likes."""
    limit = int(gib * _GIB)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
