"""What a run asks of its rollout engine, and when: samples, ahead of time where the recipe says so, and new weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from rlhf.config import RolloutConfig
from rlhf.protocols import RolloutEngine
from rlhf.runtime.ahead import Ahead, Call
from rlhf.runtime.early import EarlyVerdicts, Judge
from rlhf.runtime.handover import Parcel
from rlhf.runtime.lane import Lane, streamed
from rlhf.runtime.plan import StagePlan, derived_seed
from rlhf.types import Completion, Prompt, Rollout, Sampling

Read = Callable[[Sequence[Rollout]], None]


class Sampler:
    """Asks one rollout engine, in the order in which the run asks."""

    def __init__(
        self,
        plan: StagePlan,
        rollout: RolloutEngine,
        stop_ids: tuple[int, ...],
        judge: Judge,
        readers: Sequence[Read],
        *,
        background: bool,
    ) -> None:
        """`background`: the engine is other processes, which can write while this one is at something else. `readers`
        are told what is written, prompt by prompt, where the recipe streams.
        """
        self._rollout, self._stop_ids, self._seed = rollout, stop_ids, plan.seed
        self._config: RolloutConfig = plan.config.rollout
        self._lane = Lane(background=background and self.draws_ahead)
        self._early = EarlyVerdicts(judge) if self._config.stream else None
        self._judge, self._readers = judge, readers
        self.ahead = Ahead(self._config.max_staleness, plan.num_steps, self._draw)

    @property
    def draws_ahead(self) -> bool:
        """Samples may be of an older policy than the one that learns from them."""
        return self._config.max_staleness > 0

    def sample(self, step: int, call: Call, prompts: Sequence[Prompt]) -> list[Rollout]:
        """Samples of one prompt stand next to each other. A function of (seed, step, call, prompt) and the weights."""
        return self.ahead.draw(step, call, prompts)

    def verdicts(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        """What rewards say, which they may have said of some rollouts while others were being written."""
        return self._judge(rollouts) if self._early is None else self._early.take(rollouts)

    def send(self, parcel: Parcel) -> None:
        """New weights: now; or once what was asked for before is written; or into the midst of that."""
        if self._config.in_flight_updates:
            self._rollout.offer(parcel)  # type: ignore[attr-defined]  # the recipe has it on Ray only
            return
        sent = self._lane.submit(partial(parcel.deliver, self._rollout))
        if not self.draws_ahead:
            sent.result()

    def settle(self) -> None:
        """The last step is over: wait for what is under way, so that no failure goes unseen."""
        self.ahead.drop()
        self._lane.settle()

    def close(self) -> None:
        """Ask for nothing more."""
        self._lane.close()
        if self._early is not None:
            self._early.close()

    def _draw(self, step: int, call: Call, prompts: Sequence[Prompt]) -> Future[list[Rollout]]:
        again = (call.number,) if call.number else ()
        seed = derived_seed(self._seed, "sample", step, *again)
        sampling = self._config.sampling(call.num_samples, seed, self._stop_ids)
        if call.greedy:
            sampling = replace(sampling, temperature=0.0)
        return self._lane.submit(partial(self._written, prompts, sampling))

    def _written(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Rollout]:
        if self._early is None:
            groups = self._rollout.generate(prompts, sampling)
            return [rollout for prompt, group in zip(prompts, groups, strict=True) for rollout in _of(prompt, group)]
        written: dict[int, list[Rollout]] = {}
        for ended in streamed(self._rollout, prompts, sampling):
            new = {place: _of(prompts[place], group) for place, group in ended}
            for rollouts in new.values():
                self._early.give(rollouts)
                for read in self._readers if sampling.temperature > 0 else ():  # nothing is learnt from greedy ones
                    read(rollouts)
            written |= new
        return [rollout for place in range(len(prompts)) for rollout in written[place]]


def _of(prompt: Prompt, group: Sequence[Completion]) -> list[Rollout]:
    return [Rollout(prompt=prompt, completion=completion) for completion in group]
