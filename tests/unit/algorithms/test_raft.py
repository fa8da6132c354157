"""RAFT: which completions it imitates, in how many updates, and what it says when there is nothing to imitate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from rlhf.algorithms.raft import PATIENCE, RAFT, RAFTConfig
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
    """Every step asks for the same samples; what is trained on is written down."""

    def __init__(self, samples: Sequence[Rollout], steps: int = 1) -> None:
        self.samples, self.steps = samples, steps
        self.trained: list[torch.Tensor] = []
        self.finished: list[Metrics] = []
        self.published = 0
        self.policy = self

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        return ((step, []) for step in range(1, self.steps + 1))

    def sample(self, prompts: Sequence[Prompt], num_samples: int) -> Sequence[Rollout]:
        assert num_samples == 4
        return self.samples

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        return rollouts

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        number = torch.tensor([SAMPLES.index(r) for r in rollouts])
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
        self.trained.append(batch.tokens[:, 0])
        return {"policy/loss": float(len(self.trained))}

    def publish_weights(self) -> None:
        self.published += 1

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> None:
        assert rollouts is self.samples
        self.finished.append(metrics)


def run(samples: Sequence[Rollout], steps: int = 1, **options: Any) -> FakeRun:
    fake = FakeRun(samples, steps)
    config = RAFTConfig(steps=steps, prompts_per_step=2, samples_per_prompt=4, **options)
    algorithm = RAFT(config)
    algorithm.run(fake)  # type: ignore[arg-type]
    assert len(fake.trained) <= algorithm.updates_per_step * steps
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
    fake = run(SAMPLES, steps=PATIENCE - 1, min_reward=2.0)
    assert fake.trained == []
    assert fake.finished[0] == {"rollout/kept": 0.0}
    with pytest.raises(RewardError, match=r"in 10 steps in a row: of the last 7 completions 1 were cut .* and 6 had"):
        run(SAMPLES, steps=PATIENCE, min_reward=2.0)
