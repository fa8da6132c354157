"""The processes of one reward, and where what they print goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from rlhf.runtime.reward_process import HostSetup, RewardProcess
from rlhf.types import Rollout, Score

FOLDER_NAME = "reward_output"
_MOST_WRITTEN = 1_048_576


class Process(Protocol):
    """A `RewardProcess`, here or on another node."""

    def start(self) -> None: ...

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]: ...

    def take_output(self) -> str: ...

    def close(self) -> None: ...


Starter = Callable[[HostSetup], Process]


class RewardPool:
    """Implements `RewardFn`: rows are dealt to `num` processes, which judge at the same time."""

    def __init__(self, setup: HostSetup, num: int, starter: Starter = RewardProcess, log: Path | None = None) -> None:
        """What the reward prints is added to `log`, up to 1 MiB, secrets masked."""
        self._members = [starter(setup) for _ in range(num)]
        self._threads = ThreadPoolExecutor(max_workers=num, thread_name_prefix="reward")
        self._log = log

    def start(self) -> None:
        """Be ready; raises what is wrong with the reward."""
        list(self._threads.map(lambda member: member.start(), self._members))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        shares = [rollouts[place :: len(self._members)] for place in range(len(self._members))]
        scores: list[Score] = [Score()] * len(rollouts)
        asked = [(place, share) for place, share in enumerate(shares) if share]
        answers = self._threads.map(lambda ask: self._members[ask[0]](ask[1]), asked)
        for (place, _), answer in zip(asked, list(answers), strict=True):
            scores[place :: len(self._members)] = answer
        self._write("".join(member.take_output() for member in self._members))
        return scores

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for member in self._members:
            member.close()

    def _write(self, said: str) -> None:
        if not said or self._log is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(said[: max(0, _MOST_WRITTEN - file.tell())])
