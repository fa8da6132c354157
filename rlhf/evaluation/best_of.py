"""Answering by choice among samples: the best of n by a reward, or one of them by rejection sampling."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rlhf.errors import RewardError, RunError
from rlhf.protocols import RolloutEngine
from rlhf.types import Completion, Fingerprint, Prompt, Rollout, Sampling

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[[Sequence[Rollout]], Sequence[float | None]]
"""One number a rollout; None where the reward failed, and such a sample is not chosen."""


class BestOfN:
    """A `RolloutEngine` that gives one of `n` samples: the best by `score`, of equals the first; counts what it cost.

    With `beta` it is rejection sampling: samples are looked at in order, and one is taken with probability
    `exp((score - best of the n) / beta)` (RSO, arXiv:2309.06657). A sample depends on the seed, the prompt and its own
    index only, so the best of 4 chooses among the first four samples of the best of 16, and the best of one is plain
    sampling.
    """

    def __init__(self, engine: RolloutEngine, score: Score, n: int, beta: float | None = None) -> None:
        self._engine, self._score, self.n, self.beta = engine, score, n, beta
        self.num_answers = 0
        self.num_tokens = 0
        """Generated for all samples, thrown away or not."""
        self.scores: list[float] = []
        """Of the answers given."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """One completion for each prompt. Raises `RewardError` where the reward failed on all samples of one."""
        if sampling.num_samples != 1:
            raise RunError(f"best of n gives one answer a prompt, and {sampling.num_samples} were asked for")
        groups = self._engine.generate(prompts, replace(sampling, num_samples=self.n))
        pairs = zip(prompts, groups, strict=True)
        rollouts = [Rollout(prompt=prompt, completion=completion) for prompt, group in pairs for completion in group]
        scores = self._score(rollouts)
        answers = []
        for number, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
            of_group = scores[number * self.n : (number + 1) * self.n]
            place, score = self._choose(prompt, of_group, sampling.seed)
            answers.append([group[place]])
            self.scores.append(score)
        self.num_answers += len(groups)
        self.num_tokens += sum(len(rollout.completion.token_ids) for rollout in rollouts)
        return answers

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """All at once."""
        yield list(enumerate(self.generate(prompts, sampling)))

    def _choose(self, prompt: Prompt, scores: Sequence[float | None], seed: int) -> tuple[int, float]:
        """Place and score of the sample that is given."""
        import torch

        from rlhf.functional.selection import best_of_group, first_accepted

        judged = [(place, score) for place, score in enumerate(scores) if score is not None]
        if not judged:
            raise RewardError(f"the reward failed on all {self.n} samples of prompt {prompt.id!r}: none can be chosen")
        scores_B = torch.tensor([score for _, score in judged], dtype=torch.float64)
        group_B = torch.zeros(len(judged), dtype=torch.long)
        if self.beta is None:
            chosen_B = best_of_group(scores_B, group_B)
        else:
            draw = random.Random(f"{seed}/{prompt.id}/accept")
            uniform_B = torch.tensor([draw.random() for _ in judged], dtype=torch.float64)
            chosen_B = first_accepted(scores_B, group_B, uniform_B, self.beta)
        return judged[int(chosen_B.nonzero())]

    def figures(self) -> Mapping[str, float]:
        """What choosing gained and cost: mean score and generated tokens of an answer, and a bound on its KL."""
        from rlhf.functional.selection import best_of_n_kl

        if not self.num_answers:
            return {}
        figures = {
            "reward": sum(self.scores) / self.num_answers,
            "tokens_per_answer": self.num_tokens / self.num_answers,
        }
        return figures | ({"kl_bound": best_of_n_kl(self.n)} if self.beta is None else {})

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        self._engine.load_weights(weights, version)

    def fingerprints(self) -> Mapping[str, Fingerprint] | None:
        """Of the engine it chooses from."""
        return self._engine.fingerprints()

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()
