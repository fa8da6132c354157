"""Which policy writes which sample follows from the order of calls alone, in the background as at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from rlhf.errors import RunError
from rlhf.runtime.ahead import Ahead, Call
from rlhf.runtime.early import EarlyForwards, EarlyVerdicts
from rlhf.runtime.lane import Lane, streamed
from rlhf.types import Completion, PolicyOutput, Prompt, Rollout, TokenBatch

CALL = Call(0, 1, False)
GREEDY = Call(1, 1, True)


class Engine:
    """Writes down which version of weights it had for which step."""

    def __init__(self, *, background: bool) -> None:
        self.lane, self.version = Lane(background=background), 0
        self.written: list[tuple[int, int, int]] = []

    def draw(self, step: int, call: Call, prompts: Sequence[Prompt]) -> Any:
        return self.lane.submit(lambda: self._write(step, call, prompts))

    def _write(self, step: int, call: Call, prompts: Sequence[Prompt]) -> list[Rollout]:
        self.written.append((step, call.number, self.version))
        return [rollout_of(prompt, self.version) for prompt in prompts]

    def load(self, version: int) -> None:
        self.lane.submit(lambda: setattr(self, "version", version))


def rollout_of(prompt: Prompt, version: int = 0) -> Rollout:
    said = Completion(token_ids=(1,), logprobs=(-0.1,), text="a", finish_reason="stop", policy_version=version)
    return Rollout(prompt=prompt, completion=said)


def take_from(position: list[int]) -> Any:
    def take() -> tuple[dict[str, int], list[Prompt]]:
        position[0] += 1
        return {"item": position[0] - 1}, [Prompt(id=str(position[0]), text="?")]

    return take


def learn(engine: Engine, ahead: Ahead, num_steps: int, calls: Sequence[Call] = (CALL,)) -> dict[int, list[int]]:
    """Versions that wrote each step's samples."""
    take, seen = take_from([0]), {}
    for step in range(1, num_steps + 1):
        prompts = ahead.prompts(step, take)
        assert [prompt.id for prompt in prompts] == [str(step)]
        rollouts = [rollout for call in calls for rollout in ahead.draw(step, call, prompts)]
        seen[step] = [rollout.completion.policy_version for rollout in rollouts]
        engine.load(step)
    return seen


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(("depth", "versions"), [(0, [0, 1, 2, 3, 4]), (1, [0, 0, 1, 2, 3]), (3, [0, 0, 0, 0, 1])])
def test_samples_are_as_old_as_allowed_and_never_older(background: bool, depth: int, versions: list[int]) -> None:
    engine = Engine(background=background)
    seen = learn(engine, Ahead(depth, 5, engine.draw), 5)
    assert seen == {step: [version] for step, version in enumerate(versions, start=1)}
    assert sorted(step for step, *_ in engine.written) == [1, 2, 3, 4, 5], "nothing is drawn twice or past the end"


def test_every_call_of_a_step_is_drawn_ahead() -> None:
    engine = Engine(background=True)
    assert learn(engine, Ahead(1, 3, engine.draw), 3, (CALL, GREEDY)) == {1: [0, 0], 2: [0, 0], 3: [1, 1]}


def test_other_prompts_than_the_steps_own_are_drawn_now() -> None:
    engine = Engine(background=False)
    ahead = Ahead(1, 3, engine.draw)
    prompts = ahead.prompts(1, take_from([0]))
    ahead.draw(1, CALL, prompts)
    engine.load(7)
    (more,) = ahead.draw(1, Call(1, 1, False), [Prompt(id="more", text="?")])
    assert (more.prompt.id, more.completion.policy_version) == ("more", 7)
    assert engine.written == [(1, 0, 0), (2, 0, 0), (1, 1, 7)]


def test_what_is_drawn_ahead_survives_a_checkpoint() -> None:
    engine, position = Engine(background=True), [0]
    ahead, take = Ahead(2, 9, engine.draw), take_from([0])
    for step in (1, 2):
        drawn = ahead.draw(step, CALL, ahead.prompts(step, take))
        engine.load(step)
    assert [rollout.completion.policy_version for rollout in drawn] == [0]
    kept = ahead.state(2)
    assert [(one["step"], one["position"]) for one in kept] == [(3, {"item": 2}), (4, {"item": 3})]

    other = Engine(background=True)
    again = Ahead(2, 9, other.draw)
    again.restore(kept, lambda at: [Prompt(id=str(at["item"] + 1), text="?")])
    position[0] = 4
    take = take_from(position)
    other.load(2)
    for step, version in ((3, 0), (4, 1), (5, 2)):
        prompts = again.prompts(step, take)
        (rollout,) = again.draw(step, CALL, prompts)
        assert rollout == rollout_of(Prompt(id=str(step), text="?"), version)
        other.load(step)


def test_after_a_failure_nothing_more_is_done() -> None:
    lane, done = Lane(background=True), []

    def fail() -> None:
        raise RunError("the weights are not there")

    lane.submit(fail)
    late = lane.submit(lambda: done.append(1))
    for wait in (late.result, lane.settle):
        with pytest.raises(RunError, match="the weights are not there"):
            wait()
    assert done == []


def test_steps_that_will_not_come_are_not_drawn() -> None:
    engine, go_on = Engine(background=True), threading.Event()

    def draw(step: int, call: Call, prompts: Sequence[Prompt]) -> Any:
        drawn = engine.draw(step, call, prompts)
        if step == 1:
            engine.lane.submit(go_on.wait)
        return drawn

    ahead = Ahead(2, 9, draw)
    ahead.draw(1, CALL, ahead.prompts(1, take_from([0])))
    ahead.drop()
    go_on.set()
    engine.lane.settle()
    assert [step for step, *_ in engine.written] == [1]


def test_an_engine_without_a_stream_answers_all_at_once() -> None:
    class Guest:
        def generate(self, prompts: Sequence[Prompt], sampling: Any) -> list[list[Completion]]:
            return [[rollout_of(prompt).completion] for prompt in prompts]

    prompts = [Prompt(id="1", text="?"), Prompt(id="2", text="?")]
    found: Iterator[Any] = streamed(Guest(), prompts, None)  # type: ignore[arg-type]
    assert [[place for place, _ in ended] for ended in found] == [[0, 1]]


def test_verdicts_given_early_are_those_of_the_same_rollout() -> None:
    calls: list[list[str]] = []

    def judge(rollouts: Sequence[Rollout]) -> list[float]:
        calls.append([rollout.prompt.id for rollout in rollouts])
        return [float(rollout.prompt.id) for rollout in rollouts]

    one, two, late = (rollout_of(Prompt(id=name, text="?")) for name in ("1", "2", "3"))
    early = EarlyVerdicts(judge)
    early.give([one])
    early.give([two])
    assert early.take([late, two, one]) == [3.0, 2.0, 1.0]
    assert sorted(name for call in calls for name in call) == ["1", "2", "3"]


def test_samples_that_end_while_others_are_judged_are_judged_together() -> None:
    begun, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def judge(rollouts: Sequence[Rollout]) -> list[float]:
        calls.append(len(rollouts))
        begun.set()
        assert go_on.wait(20)
        return [0.0] * len(rollouts)

    given = [rollout_of(Prompt(id=str(number), text="?")) for number in range(4)]
    early = EarlyVerdicts(judge)
    early.give(given[:1])
    assert begun.wait(20)
    for rollout in given[1:]:
        early.give([rollout])
    go_on.set()
    assert early.take(given) == [0.0] * 4
    assert calls == [1, 3]


def test_a_reward_that_fails_early_fails_where_it_is_asked_for() -> None:
    def judge(rollouts: Sequence[Rollout]) -> list[float]:
        raise RunError("the judge is away")

    early, one = EarlyVerdicts(judge), rollout_of(Prompt(id="1", text="?"))
    early.give([one])
    with pytest.raises(RunError, match="the judge is away"):
        early.take([one])


class Model:
    """Says the tokens themselves, and counts the rows it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        self.asked += len(batch)
        said = torch.where(batch.response_mask, batch.tokens.float(), 0)
        return PolicyOutput(logprobs=said, entropy=2 * said)

    def train_step(self, batch: Any, loss_fn: Any) -> str:
        return "trained"


def rows_of(*rows: Sequence[int]) -> TokenBatch:
    """Of a prompt of one token each."""
    width = max(map(len, rows))
    real = torch.tensor([[column < len(row) for column in range(width)] for row in rows])
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return TokenBatch(tokens=tokens, attention_mask=real, response_mask=real & (torch.arange(width) > 0))


def test_rows_read_early_are_answered_without_the_model() -> None:
    model = Model()
    early = EarlyForwards(model)
    early.give(rows_of([1, 2, 3, 4], [1, 5]))
    early.give(rows_of([6, 7, 8]))
    batch = rows_of([6, 7, 8], [1, 5])  # in another order, narrower than what was read, and not all of it
    assert early.forward(batch).logprobs.tolist() == [[0, 7, 8], [0, 5, 0]]
    assert model.asked == 3
    assert early.forward(rows_of([1, 5, 9])).entropy.tolist() == [[0, 10, 18]]
    assert model.asked == 4, "what nobody has read is asked for"


def test_what_a_model_said_is_forgotten_when_it_learns_and_when_its_time_has_passed() -> None:
    model = Model()
    early = EarlyForwards(model)
    early.give(rows_of([1, 2]))
    assert early.train_step(None, None) == "trained"
    early.forward(rows_of([1, 2]))
    assert model.asked == 2
    for rows in ([1, 3], [1, 4], [1, 5]):
        early.give(rows_of(rows))
    early.forward(rows_of([1, 4]))  # of a later step than [1, 3]
    assert model.asked == 5
    for rows, asked in (([1, 5], 5), ([1, 3], 6)):
        early.forward(rows_of(rows))
        assert model.asked == asked
