"""Distillation: the policy learns the whole distribution a frozen teacher has at every token, not one token of it.

On demonstrations (Hinton et al. 2015, arXiv:1503.02531, with logits), or on the student's own samples, which is where
it will have to find its way (GKD, Agarwal et al. 2023, arXiv:2306.13649, algorithm 1). The teacher and the policy
stand in the same processes and read the same tokens in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field

from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.supervised import token_weights
from rlhf.functional.distillation import Divergence
from rlhf.protocols import Algorithm, Run
from rlhf.types import DistilledOutput, LossSum, Prompt, Rollout, TokenBatch


class DistillConfig(PassesConfig):
    """Options of `distill`; the stage names the `teacher`, whose vocabulary must be the policy's."""

    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    """`forward_kl`: KL(teacher || student), cover all the teacher would say; `reverse_kl`: KL(student || teacher), say
    nothing it would not; `jsd`: generalised Jensen-Shannon, between the two.
    """
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Of `jsd`: the teacher's share of the mixture; near 0 it acts as `forward_kl`, near 1 as `reverse_kl`."""
    temperature: float = Field(default=1.0, gt=0)
    """Both distributions are softened by it before they are compared."""
    on_policy: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps, evenly spread, that learn from the student's own samples of the rows' prompts (one each)
    instead of from the rows; with 1 prompts are all the data that is needed.
    """


@dataclass(frozen=True)
class DistillLoss:
    """The divergence at the trained tokens, by their weights, over the sum of the weights."""

    divergence: Divergence
    """Read by the engine, which computes it in the pass that reads the batch."""
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: TokenBatch) -> float:
        return float(token_weights(batch).sum())

    def __call__(self, output: DistilledOutput, batch: TokenBatch) -> LossSum:
        mask = batch.response_mask
        total = (torch.where(mask, output.divergence, 0) * token_weights(batch)).sum()
        entropy = torch.where(mask, output.entropy, 0).sum()
        return LossSum(total=total, sums={"policy/entropy": (entropy.detach(), mask.sum())})


class Distill(Algorithm):
    """The policy brought nearer to a teacher, off-policy, on-policy, or by turns."""

    def __init__(self, config: DistillConfig) -> None:
        self.config = config
        self.needs = frozenset({"policy", "teacher"}) | ({"rollout"} if config.on_policy else frozenset())
        self.consumes = "prompts" if config.on_policy == 1 else "demonstrations"
        beta = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": config.beta}[config.divergence]
        self.loss = DistillLoss(Divergence(beta, config.temperature))

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def run(self, run: Run) -> None:
        if self.consumes == "prompts":
            for step, prompts in run.prompts(self.config.batch_size):
                self._learn_from_samples(run, step, prompts)
            return
        for step, batch in run.demonstrations(self.config.batch_size):
            if self._on_policy(step):
                self._learn_from_samples(run, step, prompts_of(batch, step))
            else:
                self._learn(run, step, batch)

    def _learn_from_samples(self, run: Run, step: int, prompts: Sequence[Prompt]) -> None:
        rollouts = run.sample(prompts, 1)
        self._learn(run, step, run.collate(rollouts), rollouts)

    def _learn(self, run: Run, step: int, batch: TokenBatch, rollouts: Sequence[Rollout] = ()) -> None:
        metrics = run.policy.train_step(batch, self.loss)
        if self._on_policy(step + 1):
            run.publish_weights()
        run.finish_step(step, metrics, rollouts)

    def _on_policy(self, step: int) -> bool:
        """Whether this step, counted from 1, brings the number of on-policy ones so far to its share."""
        return int(step * self.config.on_policy) > int((step - 1) * self.config.on_policy)

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """KL(teacher || student) a token on held-out rows, and how likely those rows are; where prompts are all there
        is, on the student's own samples of held-out ones.
        """
        if self.consumes == "prompts":
            prompts = run.held_out_prompts()
            return {"kl_from_teacher": _by_row(run, run.collate(run.sample(prompts, 1)))[0]} if prompts else {}
        batch = run.held_out_demonstrations()
        return {} if batch is None else dict(zip(("kl_from_teacher", "loss"), _by_row(run, batch), strict=True))


def prompts_of(batch: TokenBatch, step: int) -> list[Prompt]:
    """What stands before the first trained token of each row, as a prompt."""
    starts_B = batch.response_mask.int().argmax(1).tolist()
    rows = zip(batch.tokens.tolist(), starts_B, strict=True)
    return [
        Prompt(id=f"{step}/{row}", text="", token_ids=tuple(tokens[:start])) for row, (tokens, start) in enumerate(rows)
    ]


def _by_row(run: Run, batch: TokenBatch) -> tuple[list[float], list[float]]:
    """Mean divergence and mean negative log-likelihood of each row's trained tokens."""
    output = run.policy.forward(batch)
    assert isinstance(output, DistilledOutput)
    weights = token_weights(batch)
    sums = [(torch.where(weights > 0, x, 0) * weights).sum(1) for x in (output.divergence, -output.logprobs)]
    divergences, losses = ((total / weights.sum(1)).tolist() for total in sums)
    return divergences, losses
