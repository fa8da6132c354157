"""RAFT: which completions it imitates, in how many updates, and what it says when there is nothing to imitate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from rlhf.algorithms.raft import PATIENCE, RAFT, RAFTConfig
from rlhf.algorithms.supervised import NextTokenLoss
from rlhf.errors import RewardError
from rlhf.types import Completion, Metrics, Prompt, Rollout, ScoredBatch


def rollout(prompt: str, text: str, reward: float, finish_reason: Any = "stop") -> Rollout:
    completion = Completion(token_ids=(5, 6), logprobs=(-1.0, -1.0), text=text, finish_reason=finish_reason)
    return Rollout(prompt=Prompt(id=prompt, token_ids=(3, 4)), completion=completion, reward=reward)


SAMPLES = [
    rollout("a", "a0", 0.1),
    rollout("a", "a1", 0.9, "length"),
    rollout("a", "a2", 0.5),
    rollout("a", "a3", 0.5),
    rollout("b", "b0", -3.0),
    rollout("b", "b1", -2.0),
    rollout("b", "b2", -2.5),
]
OF_ZERO = rollout("c", "c0", 0.0)


def chosen(**options: Any) -> list[str]:
    algorithm = RAFT(RAFTConfig(steps=1, **options))
    return [r.completion.text for r in algorithm.choose(SAMPLES)]


def test_the_best_finished_completions_of_each_prompt_are_chosen() -> None:
    assert chosen() == ["a2", "b1"]
    assert chosen(keep=2) == ["a2", "a3", "b1", "b2"]
    assert chosen(keep=7) == ["a0", "a2", "a3", "b0", "b1", "b2"]


def test_what_is_below_min_reward_is_not_chosen() -> None:
    assert chosen(keep=8, min_reward=0.1) == ["a0", "a2", "a3"]  # the bound itself is good enough
    assert chosen(keep=1, min_reward=0.2) == ["a2"]
    assert chosen(min_reward=2.0) == []


def test_rewards_closer_than_single_precision_are_told_apart() -> None:
    near = [rollout("a", "a0", 1e8), rollout("a", "a1", 1e8 + 1)]
    assert [r.completion.text for r in RAFT(RAFTConfig(steps=1)).choose(near)] == ["a1"]


@pytest.mark.parametrize("options", [{"keep": 9}, {"keep": 8}, {"samples_per_prompt": 1}, {"keep": 0}])
def test_options_that_choose_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"keep|samples_per_prompt"):
        RAFTConfig(steps=1, **options)


class FakeRun:
    """Step k is answered with the samples `steps[k]`; what is trained on is written down."""

    def __init__(self, steps: Sequence[Sequence[Rollout]]) -> None:
        self.steps = steps
        self.asked: list[int] = []
        self.trained: list[torch.Tensor] = []
        self.finished: list[Metrics] = []
        self.published = 0
        self.policy = self

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        assert num_prompts == 2
        return ((step, [Prompt(id=str(step))]) for step in range(1, len(self.steps) + 1))

    def held_out_prompts(self) -> list[Prompt]:
        return [Prompt(id="1")] if self.steps else []

    def sample(self, prompts: Sequence[Prompt], num_samples: int) -> Sequence[Rollout]:
        self.asked.append(num_samples)
        (prompt,) = prompts
        return self.steps[int(prompt.id) - 1]

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        return rollouts

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        assert rollouts
        number = torch.tensor([[*SAMPLES, OF_ZERO].index(r) for r in rollouts])
        ones = torch.ones(len(number), 1)
        return ScoredBatch(
            tokens=number[:, None],
            attention_mask=ones.bool(),
            response_mask=ones.bool(),
            sampled_logprobs=ones,
            scores_B=ones[:, 0],
            truncated_B=ones[:, 0].bool(),
            group_B=number,
        )

    def train_step(self, batch: ScoredBatch, loss: Any) -> Metrics:
        assert loss == NextTokenLoss()
        self.trained.append(batch.tokens[:, 0])
        return {"policy/loss": float(len(self.trained))}

    def publish_weights(self) -> None:
        self.published += 1

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> None:
        assert step == len(self.finished) + 1
        assert rollouts is self.steps[step - 1]
        self.finished.append(metrics)


def run(*steps: Sequence[Rollout], **options: Any) -> FakeRun:
    fake = FakeRun(steps)
    config = RAFTConfig(steps=len(steps), prompts_per_step=2, samples_per_prompt=4, **options)
    algorithm = RAFT(config)
    algorithm.run(fake)  # type: ignore[arg-type]
    assert fake.asked == [4] * len(steps)
    assert len(fake.trained) <= algorithm.updates_per_step * len(steps)
    return fake


def test_each_epoch_is_a_pass_over_the_chosen_in_minibatches() -> None:
    fake = run(SAMPLES, keep=2, epochs=3, minibatch_size=3)
    assert [len(rows) for rows in fake.trained] == [3, 1] * 3
    epochs = [torch.cat(fake.trained[k : k + 2]).tolist() for k in (0, 2, 4)]
    assert all(sorted(epoch) == [2, 3, 5, 6] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # shuffled anew
    assert fake.published == 1
    assert fake.finished == [{"policy/loss": 3.5, "rollout/kept": 4 / 7, "reward/kept": pytest.approx(-3.5 / 4)}]


def test_a_step_without_anything_to_imitate_changes_nothing_and_many_of_them_are_an_error() -> None:
    fake = run(*[SAMPLES] * (PATIENCE - 1), min_reward=2.0)
    assert fake.trained == []
    assert fake.finished[0] == {"rollout/kept": 0.0}
    with pytest.raises(RewardError) as caught:
        run(*[SAMPLES] * PATIENCE, min_reward=2.0)
    assert str(caught.value) == (
        "raft found nothing to imitate in 10 steps in a row: of the last 7 completions 1 were cut at "
        "rollout.max_tokens and 6 had a reward below min_reward; raise the one, lower the other"
    )


def test_one_step_with_something_to_imitate_starts_the_count_anew() -> None:
    good, bad = SAMPLES[:4], SAMPLES[4:]
    fake = run(good, *[bad] * (PATIENCE - 1), good, *[bad] * (PATIENCE - 1), min_reward=0.0)
    assert len(fake.finished) == 2 * PATIENCE
    assert len(fake.trained) == 2
    with pytest.raises(RewardError):
        run(good, *[bad] * PATIENCE, min_reward=0.0)


def test_the_order_within_a_step_follows_from_the_step_alone() -> None:
    """So that a run that is resumed goes on as it would have."""
    first, second = ([rows.tolist() for rows in run(SAMPLES, keep=3, epochs=3).trained] for _ in range(2))
    assert first == second
    elsewhere = run(SAMPLES, SAMPLES, keep=3, epochs=3).trained[3:]
    assert [rows.tolist() for rows in elsewhere] != first


def test_a_reward_of_zero_counts_as_zero() -> None:
    assert run([SAMPLES[0], OF_ZERO]).finished[0]["reward/kept"] == pytest.approx((0.1 + 0.0) / 2)


def test_held_out_figures_are_the_rewards_of_one_sample_each() -> None:
    fake = FakeRun([[rollout("a", "a0", 0.0), rollout("b", "b0", 3.0)]])
    method = RAFT(RAFTConfig(steps=1))
    assert method.measure(fake) == {"reward": [0.0, 3.0]}  # type: ignore[arg-type]
    assert fake.asked == [1]
    assert method.measure(FakeRun([])) == {}  # type: ignore[arg-type]
