"""Samples of coming steps, drawn while the policy learns from those of this one.

With `rollout.max_staleness` k, step s asks for the samples of step s + k before it learns from its own. So every sample
(but those of the first k steps) is begun by the policy as it was k updates before the one that learns from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from rlhf.errors import RunError
from rlhf.types import Completion, Prompt, Rollout


class Call(NamedTuple):
    """A call of `Run.sample`: which of its step's, and what it asks for."""

    number: int
    num_samples: int
    greedy: bool


Draw = Callable[[int, Call, Sequence[Prompt]], "Future[list[Rollout]]"]
"""Asks for the samples of a step's call."""


@dataclass
class _Step:
    """A step whose prompts are taken."""

    number: int
    prompts: list[Prompt]
    position: Mapping[str, int]
    """Of the stream, before they were taken."""
    drawn: dict[Call, Future[list[Rollout]]] = field(default_factory=dict)


class Ahead:
    """The steps whose prompts are taken and whose samples are asked for: the current one, and those that follow it."""

    def __init__(self, depth: int, num_steps: int, draw: Draw) -> None:
        self._depth, self._num_steps, self._draw = depth, num_steps, draw
        self._steps: list[_Step] = []

    def prompts(self, step: int, take: Callable[[], tuple[Mapping[str, int], list[Prompt]]]) -> list[Prompt]:
        """The prompts of `step`; those of the steps that follow are taken too."""
        self._steps = [known for known in self._steps if known.number >= step]
        last = self._steps[-1].number if self._steps else step - 1
        for number in range(last + 1, min(step + self._depth, self._num_steps) + 1):
            position, prompts = take()
            self._steps.append(_Step(number, prompts, position))
        return self._steps[0].prompts

    def draw(self, step: int, call: Call, prompts: Sequence[Prompt]) -> list[Rollout]:
        """Samples of this call, and the same asked for all steps that follow."""
        if not self._steps or list(prompts) != self._steps[0].prompts:
            return self._draw(step, call, prompts).result()
        for known in self._steps:
            if call not in known.drawn:
                known.drawn[call] = self._draw(known.number, call, known.prompts)
        return self._steps[0].drawn[call].result()

    def drop(self) -> None:
        """Do not begin what has not begun: no step will come for it."""
        for drawn in (drawn for known in self._steps for drawn in known.drawn.values()):
            drawn.cancel()

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def state(self, step: int) -> list[dict[str, Any]]:
        """What was drawn for the steps after `step` when that ended; waits until it is."""
        return [
            {
                "step": known.number,
                "position": dict(known.position),
                "drawn": [[list(call), list(map(_told, drawn.result()))] for call, drawn in known.drawn.items()],
            }
            for known in self._steps
            if step < known.number <= step + self._depth
        ]

    def restore(
        self, state: Sequence[Mapping[str, Any]], prompts_at: Callable[[Mapping[str, int]], list[Prompt]]
    ) -> None:
        """Take up what `state` returned; `prompts_at` reads prompts again. Raises `RunError` if one is gone."""
        try:
            self._steps = [_restored(kept, prompts_at(kept["position"])) for kept in state]
        except (KeyError, TypeError, ValueError) as absent:
            raise RunError(f"the checkpoint's run.json lacks something of the samples drawn ahead: {absent}") from None


def _told(rollout: Rollout) -> list[Any]:
    return [rollout.prompt.id, asdict(rollout.completion)]


def _restored(kept: Mapping[str, Any], prompts: list[Prompt]) -> _Step:
    by_id = {prompt.id: prompt for prompt in prompts}
    step = _Step(kept["step"], prompts, kept["position"])
    for call, told in kept["drawn"]:
        drawn: Future[list[Rollout]] = Future()
        drawn.set_result(list(_rollouts(told, by_id)))
        step.drawn[Call(*call)] = drawn
    return step


def _rollouts(told: Sequence[Any], by_id: Mapping[str, Prompt]) -> Iterator[Rollout]:
    for prompt_id, completion in told:
        tokens, logprobs = (tuple(completion.pop(name)) for name in ("token_ids", "logprobs"))
        yield Rollout(prompt=by_id[prompt_id], completion=Completion(token_ids=tokens, logprobs=logprobs, **completion))
