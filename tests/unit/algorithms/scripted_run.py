"""A run whose models and rewards say what a test tells them to: what is left is the algorithm itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rlhf.types import Completion, Metrics, PolicyOutput, Prompt, Rollout, ScoredBatch, TokenBatch, ValueOutput


def scored_batch(
    scores: Sequence[float],
    groups: Sequence[int],
    lengths: Sequence[int] | None = None,
    truncated: Sequence[int] = (),
    sampled: Tensor | None = None,
) -> ScoredBatch:
    """Rows of two prompt tokens and `lengths` response tokens."""
    lengths = lengths or [3] * len(scores)
    width = 2 + max(lengths)
    column = torch.arange(width)
    attention = column < 2 + torch.tensor(lengths)[:, None]
    mask = attention & (column >= 2)
    return ScoredBatch(
        tokens=torch.ones(len(scores), width, dtype=torch.long),
        attention_mask=attention,
        response_mask=mask,
        sampled_logprobs=torch.where(mask, -1.0, 0.0) if sampled is None else sampled,
        scores_B=torch.tensor(scores, dtype=torch.float32),
        truncated_B=torch.tensor([row in truncated for row in range(len(scores))]),
        group_B=torch.tensor(groups),
    )


@dataclass
class Model:
    """Says these log-probs (or values) of any rows of their shape, and remembers what it was trained on."""

    says: Tensor
    final_values_B: Tensor | None = None
    trained: list[tuple[Any, Any]] = field(default_factory=list)

    def forward(self, batch: TokenBatch) -> Any:
        assert batch.tokens.shape == self.says.shape
        if self.final_values_B is not None:
            return ValueOutput(values=self.says, final_values_B=self.final_values_B)
        return PolicyOutput(logprobs=self.says, entropy=torch.zeros_like(self.says))

    def train_step(self, batch: Any, loss_fn: Any) -> Metrics:
        assert loss_fn.count(batch) > 0
        self.trained.append((batch, loss_fn))
        return {"policy/loss": 0.0, "policy/approx_kl": 0.01 * len(self.trained)}


@dataclass
class ScriptedRun:
    """`rewards(prompt id, sample)` gives a reward, or None where it fails; completions have `lengths(...)` tokens."""

    rewards: Callable[[str, int], float | None] = lambda prompt, sample: float(sample)
    lengths: Callable[[str, int], int] = lambda prompt, sample: 3
    max_tokens: int = 8
    policy: Any = None
    reference: Any = None
    value: Any = None
    num_steps: int = 1
    asked: list[tuple[list[str], int, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    finished: list[tuple[int, Metrics, list[Rollout]]] = field(default_factory=list)
    collated: list[ScoredBatch] = field(default_factory=list)
    published: int = 0
    next_prompt: int = 0

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        return [call() for call in calls]

    def more_prompts(self, count: int) -> list[Prompt]:
        start, self.next_prompt = self.next_prompt, self.next_prompt + count
        return [Prompt(id=f"p{i}", text="?", token_ids=(5, 6)) for i in range(start, start + count)]

    def prompts(self, count: int) -> Iterator[tuple[int, list[Prompt]]]:
        for step in range(1, self.num_steps + 1):
            yield step, self.more_prompts(count)

    def sample(self, prompts: Sequence[Prompt], num_samples: int, *, greedy: bool = False) -> list[Rollout]:
        self.asked.append(([prompt.id for prompt in prompts], num_samples, greedy))
        indices = [-1] if greedy else range(num_samples)
        return [self._rollout(prompt, sample) for prompt in prompts for sample in indices]

    def _rollout(self, prompt: Prompt, sample: int) -> Rollout:
        length = self.lengths(prompt.id, sample)
        completion = Completion(
            token_ids=(7,) * length,
            logprobs=(-1.0,) * length,
            text=str(sample),
            finish_reason="length" if length >= self.max_tokens else "stop",
        )
        return Rollout(prompt=prompt, completion=completion)

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        rewards = [self.rewards(r.prompt.id, int(r.completion.text)) for r in rollouts]
        pairs = zip(rollouts, rewards, strict=True)
        return [replace(rollout, reward=reward) for rollout, reward in pairs if reward is not None]

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        names: dict[str, int] = {}
        batch = scored_batch(
            [rollout.reward or 0.0 for rollout in rollouts],
            [names.setdefault(rollout.prompt.id, len(names)) for rollout in rollouts],
            [len(rollout.completion.token_ids) for rollout in rollouts],
            [row for row, rollout in enumerate(rollouts) if rollout.completion.finish_reason == "length"],
        )
        self.collated.append(batch)
        said = torch.where(batch.response_mask, -1.0, 0.0)
        for role in (self.policy, self.reference):
            if role is not None:
                role.says = said
        return batch

    def publish_weights(self) -> None:
        self.published += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout] = ()) -> None:
        assert step == len(self.finished) + 1
        self.finished.append((step, dict(metrics), list(rollouts)))

    def held_out_prompts(self) -> list[Prompt]:
        return [Prompt(id=f"h{i}", text="?", token_ids=(5, 6)) for i in range(3)]
