"""Rollout engines in actors as one engine. One that dies or hangs is given up; the others answer its prompts, and
another takes its place when weights are next handed over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayError
from torch import Tensor

from rlhf.errors import WorkerDied
from rlhf.runtime.groups import RemoteWeights, in_buckets, root_cause
from rlhf.runtime.handover import Parcel, require_same
from rlhf.types import Completion, Fingerprint, Prompt, Sampling

_MOST_LOSSES = 3
"""Times that the engine of a rank is replaced: one that is lost more often is lost for a reason."""


class _Call(NamedTuple):
    """What an engine is at: the places of the prompts in its hand, if it writes, and until when."""

    rank: int
    deadline: float
    hand: tuple[int, ...] = ()
    has_begun: bool = False
    loads: Parcel | None = None
    """New weights, which it takes in before it goes on with its hand."""


class RolloutGroup:
    """Satisfies `rlhf.protocols.RolloutEngine`. Each sample has its own seed, so who writes it does not matter."""

    def __init__(
        self,
        workers: Sequence[Any],
        timeout: float,
        note: Callable[[str], None],
        replace: Callable[[int], tuple[Any, Any]] | None = None,
    ) -> None:
        """`timeout`: seconds an engine may take over one call before it is taken to hang. `replace`: another worker in
        the place of this rank's, and the building of its engine.
        """
        self._workers = dict(enumerate(workers))
        """Those that live, by rank."""
        self._num_hands = len(workers)
        """However many live: in other company a prompt's log-probs differ in the last bit."""
        self._replace = replace
        self._coming: dict[int, tuple[Any, Any]] = {}
        """Workers whose engines are being built, by rank."""
        self._losses: Counter[int] = Counter()
        self._timeout, self._note = timeout, note
        self._reissued = 0
        self._newest: Parcel | None = None
        self._loaded: dict[int, int] = {}
        """Versions of offered weights, by rank."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each prompt, in order. Raises `WorkerDied` when no engine is left."""
        answers = dict(ended for ended_at_once in self.stream(prompts, sampling) for ended in ended_at_once)
        return [answers[place] for place in range(len(prompts))]

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """Now and then, the prompts all of whose completions have ended since, by their places."""
        waiting = dealt(prompts, sampling, self._num_hands)
        calls: dict[Any, _Call] = {}
        answered: set[int] = set()

        def ask(rank: int, hand: tuple[int, ...], has_begun: bool) -> None:
            worker, parcel = self._workers[rank], self._newest
            call = _Call(rank, self._deadline(), hand, has_begun)
            if parcel is not None and self._loaded.get(rank) != parcel.version:
                calls[worker.renew.remote(shared(parcel.weights), parcel.version)] = call._replace(loads=parcel)
            elif has_begun:
                calls[worker.go_on.remote()] = call
            else:
                calls[worker.begin.remote([prompts[place] for place in hand], sampling)] = call

        while waiting or calls:
            busy = {call.rank for call in calls.values()}
            for rank in [rank for rank in self._workers if rank not in busy][: len(waiting)]:
                ask(rank, waiting.pop(0), False)
            call, answer = self._next_end(calls)
            if call.rank not in self._workers:
                # Whole, as it was: a batch of other prompts would round otherwise in the last bit.
                waiting.append(call.hand)
                self._reissued += len(call.hand)
                continue
            if call.loads is not None:
                call.loads.require(answer)
                self._loaded[call.rank] = call.loads.version
                ask(call.rank, call.hand, call.has_begun)
                continue
            ended = {call.hand[place]: completions for place, completions in answer.ended}
            if answer.goes_on:
                ask(call.rank, call.hand, True)
            yield [(place, completions) for place, completions in ended.items() if place not in answered]
            answered |= ended.keys()

    def offer(self, parcel: Parcel) -> None:
        """New weights, which each engine takes in when it next can: between two tokens, where it is writing."""
        self._take_in()
        # In the store before anything changes them, and there once for all engines.
        self._newest = replace(parcel, weights=RemoteWeights(shared(parcel.weights)))

    def take_reissued(self) -> int:
        """Prompts that had to be given to another engine since this was last asked."""
        taken, self._reissued = self._reissued, 0
        return taken

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        """One copy in the object store serves all engines; from a remote group it is already there."""
        self._take_in()
        buckets = shared(weights)
        self._each(lambda worker: worker.load_weights.remote(buckets, version))

    def fingerprints(self) -> dict[str, Fingerprint] | None:
        """Of one engine, once all the others are found to hold the same."""
        told = self._each(lambda worker: worker.fingerprints_of_weights.remote())
        first: dict[str, Fingerprint] | None = next(iter(told.values()))
        for rank, other in told.items():
            if first is not None and other is not None:
                require_same(first, other, {}, f"rollout worker {rank}")
        return first

    def sleep(self) -> None:
        self._each(lambda worker: worker.sleep.remote())

    def wake(self) -> None:
        self._each(lambda worker: worker.wake.remote())

    def _each(self, ask: Callable[[Any], Any]) -> dict[int, Any]:
        """What every engine that lives answers, by rank."""
        calls = {ask(worker): _Call(rank, self._deadline()) for rank, worker in self._workers.items()}
        ended = [self._next_end(calls) for _ in range(len(calls))]
        answers = {call.rank: answer for call, answer in ended}
        return {rank: answers[rank] for rank in sorted(answers) if rank in self._workers}

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _next_end(self, calls: dict[Any, _Call]) -> tuple[_Call, Any]:
        """Take the next call that ends out of `calls`, with its answer; an engine that cannot answer is given up."""
        first = min(calls, key=lambda reference: calls[reference].deadline)
        done, _ = ray.wait(list(calls), num_returns=1, timeout=max(0.0, calls[first].deadline - time.monotonic()))
        reference = done[0] if done else first
        call = calls.pop(reference)
        if not done:
            why = WorkerDied(f"rollout worker {call.rank} hangs: no answer in {self._timeout:g} s (rollout.timeout)")
            self._give_up(call, why)
            return call, None
        try:
            return call, ray.get(reference)
        except RayActorError as death:
            self._give_up(call, root_cause([(call.rank, death)], "rollout"))
            return call, None
        except RayError as failure:  # a mistake of the prompts or of the code, which another engine would make too
            raise root_cause([(call.rank, failure)], "rollout") from None

    def _give_up(self, call: _Call, why: Exception) -> None:
        """Go on without this engine, or raise where it was the last."""
        ray.kill(self._workers.pop(call.rank))
        self._loaded.pop(call.rank, None)
        if not self._workers:
            raise why
        rest = f"its {len(call.hand)} prompts go to the others, and " if call.hand else ""
        self._note(f"{why}; {rest}the run goes on with {len(self._workers)} rollout workers")
        self._losses[call.rank] += 1
        if self._replace is not None and self._losses[call.rank] <= _MOST_LOSSES:
            self._coming[call.rank] = self._replace(call.rank)

    def _take_in(self) -> None:
        """Let those that have been built since work along: all that they lack is the weights that are about to come."""
        for rank, (worker, built) in list(self._coming.items()):
            if not ray.wait([built], timeout=0)[0]:
                continue
            del self._coming[rank]
            try:
                ray.get(built)
            except RayError as failure:
                self._note(f"{root_cause([(rank, failure)], 'rollout')}; it is not replaced again")
                continue
            self._workers[rank] = worker
            self._note(f"rollout worker {rank} is replaced; the run goes on with {len(self._workers)} rollout workers")


def shared(weights: Iterator[tuple[str, Tensor]]) -> list[Any]:
    """References to weights in the object store; those of a remote group are there already."""
    return (
        weights.buckets if isinstance(weights, RemoteWeights) else [ray.put(bucket) for bucket in in_buckets(weights)]
    )


def dealt(prompts: Sequence[Prompt], sampling: Sampling, num_engines: int) -> list[tuple[int, ...]]:
    """The places of the prompts for each engine: the longest first, each to the engine with the fewest tokens so far.

    Tokens are those of the prompt and those that its completions may have. Engines left without any are left out.
    """
    hands: list[list[int]] = [[] for _ in range(num_engines)]
    loads = [0] * num_engines
    for place in sorted(range(len(prompts)), key=lambda place: (-len(prompts[place].token_ids), place)):
        engine = loads.index(min(loads))
        hands[engine].append(place)
        loads[engine] += len(prompts[place].token_ids) + sampling.num_samples * sampling.max_tokens
    return [tuple(sorted(hand)) for hand in hands if hand]
