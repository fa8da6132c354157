"""Rewards on Ray: each in actors of its own, on any node; the actor keeps the process in which the reward runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rlhf.runtime.groups import root_cause
from rlhf.runtime.reward_process import HostSetup, RewardProcess
from rlhf.types import Rollout, Score


@ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy="SPREAD")
class RewardActor:
    """Asks the process beside it, which it can end: it is never stuck in somebody's code itself."""

    def __init__(self, setup: HostSetup) -> None:
        self._process = RewardProcess(setup)

    def start(self) -> None:
        self._process.start()

    def judge(self, rollouts: Sequence[Rollout]) -> tuple[list[Score], str]:
        """Scores, and what the reward printed."""
        scores = self._process(rollouts)
        return scores, self._process.take_output()

    def close(self) -> None:
        """End the process; killing the actor alone would leave it to notice by itself."""
        self._process.close()


class RemoteRewardProcess:
    """Looks like a `RewardProcess`, and is one on some node."""

    def __init__(self, setup: HostSetup) -> None:
        self._actor = RewardActor.remote(setup)  # type: ignore[attr-defined]
        self._output = ""

    def start(self) -> None:
        self._got(self._actor.start.remote())

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        try:
            scores, said = self._got(self._actor.judge.remote(list(rollouts)))
        except RayActorError as error:  # its node is gone; Ray starts another
            return [Score(error=f"its actor is gone: {root_cause([(0, error)], 'reward')}")] * len(rollouts)
        self._output += said
        return list(scores)

    def take_output(self) -> str:
        said, self._output = self._output, ""
        return said

    def close(self) -> None:
        with contextlib.suppress(RayError):  # it may be gone already
            ray.get(self._actor.close.remote(), timeout=10)
        ray.kill(self._actor)

    @staticmethod
    def _got(reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise root_cause([(0, error)], "reward") from None
