"""A group of actors: failures come out as the root cause."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf.errors import ConfigError, ResourceError, RewardError, RunError, WorkerDied

pytestmark = pytest.mark.ray


class Act:
    """What an actor is told to do."""

    def fail(self, error: Exception, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        raise error

    def die(self, number: int, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), number)
        time.sleep(60)

    def answer(self, value: Any, seconds: float = 0.0) -> Any:
        time.sleep(seconds)
        return value


@pytest.fixture
def two(ray_up: None) -> Iterator[list[Any]]:
    import ray

    actor = ray.remote(num_cpus=0)(Act)
    made = [actor.remote() for _ in range(2)]
    ray.get([one.answer.remote("up") for one in made])  # what follows is about seconds, not about starting
    yield made
    for one in made:
        ray.kill(one)


def test_results_come_in_the_order_they_were_asked_for(two: list[Any]) -> None:
    from rlhf.runtime.groups import results

    assert results([two[0].answer.remote("slow", 0.5), two[1].answer.remote("fast")], "policy") == ["slow", "fast"]


def test_a_dead_rank_comes_before_its_peer_that_lost_it(two: list[Any]) -> None:
    """The peer fails first, for its connection broke; a moment later the death is known."""
    from rlhf.runtime.groups import results

    asked = [two[0].fail.remote(ConnectionError("peer gone")), two[1].die.remote(int(signal.SIGKILL), 0.5)]
    with pytest.raises(WorkerDied, match=r"^policy worker 1 died: its process ended without a word: killed, out of"):
        results(asked, "policy")


def test_a_peer_that_hangs_is_not_waited_for(two: list[Any]) -> None:
    from rlhf.runtime.groups import results

    started = time.monotonic()
    with pytest.raises(WorkerDied, match="value worker 0 died"):
        results([two[0].die.remote(int(signal.SIGSEGV)), two[1].answer.remote(None, 60)], "value")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("error", [ConfigError("no such option"), RewardError("reward 'x' raised"), RunError("full")])
def test_our_own_errors_come_out_as_they_are(two: list[Any], error: Exception) -> None:
    from rlhf.runtime.groups import results

    with pytest.raises(type(error)) as caught:
        results([two[0].fail.remote(error)], "policy")
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_other_errors_name_the_worker_and_what_it_said(two: list[Any]) -> None:
    from rlhf.runtime.groups import results

    with pytest.raises(RunError, match=r"^reference worker 0 failed: ZeroDivisionError: by hand$"):
        results([two[0].fail.remote(ZeroDivisionError("by hand"))], "reference")


def test_a_worker_that_is_never_ready_is_given_up_on(two: list[Any]) -> None:
    from rlhf.runtime.groups import results

    with pytest.raises(ResourceError, match=r"^rollout: workers not ready within 0\.5 s \(runtime\.start_timeout\)"):
        results([two[0].answer.remote(None, 60)], "rollout", timeout=0.5)


def test_weights_travel_in_buckets(ray_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads them has one bucket at a time, and all of them in order."""
    import torch

    from rlhf.runtime import groups
    from rlhf.runtime.rollout_group import shared

    weights = [(str(number), torch.full((number,), float(number))) for number in (1, 3, 2, 9, 1)]
    monkeypatch.setattr(groups, "BUCKET_BYTES", 16)
    assert [[name for name, _ in bucket] for bucket in groups.in_buckets(weights)] == [["1", "3"], ["2", "9"], ["1"]]
    assert list(groups.in_buckets([])) == []
    references = shared(iter(weights))
    assert len(references) == 3
    remote = groups.RemoteWeights(references)
    assert shared(remote) == references, "they are there already"
    assert [(name, tensor.tolist()) for name, tensor in remote] == [(name, tensor.tolist()) for name, tensor in weights]
