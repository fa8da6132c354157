"""Online DPO: the policy's own completions, paired by a reward, and DPO's loss on the pairs.

Guo et al. 2024 (arXiv:2402.04792). Any reward or sum of rewards decides: a model, a function, a grader. The reference
is the model as the stage finds it; a further stage that starts from this one's model is the next round of iterative DPO
(Xu et al. 2023, arXiv:2312.16682).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from pydantic import Field

from rlhf.algorithms.dpo import DPOLoss, DPOLossConfig
from rlhf.algorithms.figures import mean_of
from rlhf.functional.masked import masked_sum
from rlhf.functional.pairing import best_and_worst
from rlhf.protocols import Algorithm, Run
from rlhf.types import Metrics, PreferenceBatch, ScoredBatch, TokenBatch


class OnlineDPOConfig(DPOLossConfig):
    """Options of `online_dpo`."""

    steps: int = Field(ge=1)
    """Rounds of sampling and updating."""
    prompts_per_step: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=2, ge=2)
    """The best and the worst of a prompt's completions become its pair."""
    minibatch_size: int = Field(default=64, ge=1)
    """Pairs in one optimizer step."""
    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the score of a completion that was cut at `rollout.max_tokens`."""


class OnlineDPO(Algorithm):
    """DPO on pairs that the policy writes and a reward ranks, once over each step's pairs."""

    needs = frozenset({"policy", "reference", "rollout"})
    consumes = "prompts"

    def __init__(self, config: OnlineDPOConfig) -> None:
        self.config = config
        self.loss = DPOLoss.of(config)
        self.updates_per_step = -(-config.prompts_per_step // config.minibatch_size)
        self._has_noted = False

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
            pairs, figures = self.paired(run, run.collate(rollouts))
            if len(pairs):
                figures |= self.improve(run, pairs)
                run.publish_weights()
            elif not self._has_noted:
                run.note(f"step {step}: no update, for the rewards of every prompt's completions are alike")
                self._has_noted = True
            run.finish_step(step, figures, rollouts)

    def paired(self, run: Run, batch: ScoredBatch) -> tuple[PreferenceBatch, Metrics]:
        """The best and the worst completion of each prompt whose completions differ in score."""
        mask = batch.response_mask
        (reference,) = run.together(lambda: run.reference.forward(batch))
        ref_logprobs_B = masked_sum(reference.logprobs, mask, dim=1)
        penalised_B = batch.scores_B - self.config.missing_eos_penalty
        rows = best_and_worst(torch.where(batch.truncated_B, penalised_B, batch.scores_B), batch.group_B)
        best_first = rows.flatten()
        pairs = PreferenceBatch(
            candidates=TokenBatch(
                tokens=batch.tokens[best_first],
                attention_mask=batch.attention_mask[best_first],
                response_mask=mask[best_first],
            ),
            present_BK=torch.ones(rows.shape, dtype=torch.bool),
            margin_B=torch.zeros(len(rows)),
            ref_logprobs_BK=ref_logprobs_B[rows],
        )
        kl_B = masked_sum(batch.sampled_logprobs, mask, dim=1) - ref_logprobs_B
        return pairs, {
            "policy/kl_to_reference": float(kl_B.mean()),
            "preference/pairs": len(rows) / len(torch.unique(batch.group_B)),
        }

    def improve(self, run: Run, pairs: PreferenceBatch) -> Metrics:
        """One pass over the step's pairs."""
        collected: list[Metrics] = []
        for minibatch in pairs.split(self.config.minibatch_size):
            collected += run.together(partial(run.policy.train_step, minibatch, self.loss))
        return mean_of(collected)

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Reward of one sample for each held-out prompt, and its KL to the reference."""
        prompts = run.held_out_prompts()
        if not prompts:
            return {}
        batch = run.collate(run.score(run.sample(prompts, 1)))
        policy, reference = run.together(lambda: run.policy.forward(batch), lambda: run.reference.forward(batch))
        kl_B = masked_sum(policy.logprobs - reference.logprobs, batch.response_mask, dim=1)
        return {"reward": batch.scores_B.tolist(), "kl_to_reference": kl_B.tolist()}
