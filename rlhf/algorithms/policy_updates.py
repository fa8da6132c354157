"""What PPO and its relatives share: options, comparing policies, shuffled minibatches, the KL coefficient, measuring.

A method says how the tokens of its samples are credited (`assess`) and writes its own loop; the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Literal, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rlhf.algorithms.compared import Compared, compared
from rlhf.algorithms.figures import mean_of
from rlhf.algorithms.policy_objective import Aggregation, PolicyLoss, TokenWeights
from rlhf.config import PartConfig
from rlhf.errors import RunError
from rlhf.functional.aggregation import prompt_mean
from rlhf.functional.correction import Beyond, Correction, chi_square, effective_sample_share, sampling_correction
from rlhf.functional.kl import AdaptiveKL, update_kl
from rlhf.functional.masked import masked_mean
from rlhf.protocols import Algorithm, Run
from rlhf.types import Experience, Metrics, PolicyOutput, Rollout, ScoredBatch


class PolicyGradientConfig(PartConfig):
    """Options of every method that improves a policy on its own samples."""

    steps: int = Field(ge=1)
    """Rounds of sampling and updating."""
    prompts_per_step: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)
    minibatch_size: int = Field(default=64, ge=1)
    """Samples in one optimizer step."""
    epochs: int = Field(default=2, ge=1)
    """Passes over a step's samples."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Price of a nat of KL to the reference, per token."""
    kl_penalty: Literal["k1_in_reward", "k2_in_loss", "k3_in_loss"] = "k1_in_reward"
    """Where the KL is charged, and by which estimator. In the reward it is credited as rewards are; in the loss, k2 has
    the gradient of KL(policy || reference) and k3 that of KL(reference || policy).
    """
    kl_target: float | None = Field(default=None, gt=0)
    """KL of a whole completion, in nats, that an adaptive coefficient steers to; fixed coefficient where absent."""
    kl_horizon: float = Field(default=10_000, gt=0)
    """Samples over which the adaptive coefficient moves by a factor of e at most (arXiv:1909.08593, section 2.2)."""
    clip_low: float = Field(default=0.2, gt=0, le=1)
    clip_high: float = Field(default=0.2, gt=0)
    """The probability ratio is clipped to [1 - clip_low, 1 + clip_high]."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bounds the loss of a bad token that became likely: ratios count up to this (arXiv:1912.09729); null: no bound."""
    entropy_coef: float = Field(default=0.0, ge=0)
    target_kl: float | None = Field(default=None, gt=0)
    """A step's epochs end early once the update's own KL per token (k3) exceeds this."""
    aggregation: Aggregation = "token_mean"
    """How token losses become one: the mean over all tokens; over rows of each row's mean; over rows of each row's sum
    divided by `loss_length`; or over prompts of the mean over all tokens of a prompt. Counted over the whole minibatch
    whatever the micro-batches and workers; a prompt's tokens over the whole step.
    """
    loss_length: int | None = Field(default=None, ge=1)
    """The constant of `sequence_sum`; `rollout.max_tokens` is usual."""
    max_logprob_gap: float | None = Field(default=0.1, gt=0)
    """The run stops, before weights trained on them are kept, at samples whose log-probs the rollout engine tells
    otherwise than the train engine, by more than this on average (metric `rollout/logprob_gap`): weights, temperature
    or tokens are not the same on both sides. Engines agree to 1e-5 in float32, to about 0.02 in bfloat16; null: never.
    """
    correction: Literal["auto", "off", "token", "sequence"] = "auto"
    """Weighs losses by how likely the policy finds what the rollout engine sampled, token by token or for whole
    completions: for samples of an older policy (`rollout.max_staleness`), or where the engines' log-probs differ (see
    `rollout/logprob_gap`). `auto`: `token` in steps with samples of an older policy, else off.
    """
    correction_cap: float = Field(default=2.0, ge=1)
    """Bound of such a weight."""
    correction_beyond: Beyond = "cut"
    """`cut`: a larger weight counts as `correction_cap` (truncated importance sampling). `drop`: what weighs more, or
    less than its inverse, is left out (masked importance sampling).
    """
    max_drift: float | None = Field(default=None, gt=0)
    """Leaves a bad completion (advantage below 0) out once the updates made it less likely by more than this, in nats a
    token (DeepSeek-V3.2, arXiv:2512.02556); null: none.
    """

    @model_validator(mode="after")
    def _options_agree(self) -> PolicyGradientConfig:
        if self.aggregation == "sequence_sum" and self.loss_length is None:
            raise ValueError("aggregation sequence_sum divides by a constant: give loss_length, as rollout.max_tokens")
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("kl_target steers kl_coef by factors, so kl_coef must start above 0")
        return self


Config = TypeVar("Config", bound=PolicyGradientConfig)


class PolicyGradient(Algorithm, Generic[Config]):
    """Improves a policy on its own samples. A subclass has a loop (`run`) and credits tokens (`assess`)."""

    consumes = "prompts"

    def __init__(self, config: Config) -> None:
        self.config = config
        samples = config.prompts_per_step * config.samples_per_prompt
        self.updates_per_step = config.epochs * -(-samples // config.minibatch_size)
        self.needs = frozenset({"policy", "rollout"}) | ({"reference"} if config.kl_coef > 0 else frozenset())
        self.kl_coef = config.kl_coef
        self._has_noted = False

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[Experience, Metrics]:
        """What the models think of the samples, as advantages."""
        raise NotImplementedError

    def learn(self, run: Run, step: int, rollouts: Sequence[Rollout]) -> Metrics:
        """Assess the samples, improve the policy on them, and hand it to the rollout engine.

        Without samples, or where none may be trained on, the policy stays as it is.
        """
        if not rollouts:
            return self._passed_over(run, step, "the rewards within every group are alike")
        batch = run.collate(rollouts)
        experience, figures = self.assess(run, batch)
        _require_one_policy(figures.get("rollout/logprob_gap", 0.0), self.config.max_logprob_gap)
        if not len(experience):
            return figures | self._passed_over(run, step, "every completion was cut at rollout.max_tokens")
        figures = figures | self.improve(run, experience, step)
        _require_one_policy(figures.get("rollout/logprob_gap", 0.0), self.config.max_logprob_gap)
        if (
            self.config.kl_target is not None and "policy/kl_to_reference" in figures
        ):  # not where the update was skipped
            controller = AdaptiveKL(coef=self.kl_coef, target=self.config.kl_target, horizon=self.config.kl_horizon)
            self.kl_coef = update_kl(controller, figures["policy/kl_to_reference"], len(batch)).coef
        run.publish_weights()
        return figures

    def _passed_over(self, run: Run, step: int, why: str) -> Metrics:
        """No update in this step; said once, counted always."""
        if not self._has_noted:
            run.note(f"step {step}: no update, for {why}; later steps without one show as policy/updates 0")
            self._has_noted = True
        return {"policy/updates": 0.0}

    # --- before an update ------------------------------------------------------------------------------------------

    def updates_find_old(self, batch: ScoredBatch) -> bool:
        """Whether old log-probs are left to the update: a step's only one finds the policy as it is before any, so its
        own log-probs are the old ones, exactly. A KL in the reward and importance weights need them before.
        """
        config = self.config
        in_reward = config.kl_coef > 0 and config.kl_penalty == "k1_in_reward"
        return self.updates_per_step == 1 and self._correction_level(batch) == "off" and not in_reward

    def _correction_level(self, batch: ScoredBatch) -> Literal["off", "token", "sequence"]:
        level = self.config.correction
        if level == "auto":
            return "token" if batch.is_stale else "off"
        return level

    def compare(self, run: Run, batch: ScoredBatch, *, old: bool = False) -> Compared:
        """The samples' log-probs, of the whole distribution whatever `top_p` and `top_k` left of it in sampling; with
        `old` those of the policy too, which is otherwise asked where no update will tell.
        """
        calls: dict[str, Callable[[], PolicyOutput]] = {}
        if old or not self.updates_find_old(batch):
            calls["policy"] = lambda: run.policy.forward(batch)
        if "reference" in self.needs:
            calls["reference"] = lambda: run.reference.forward(batch)
        said = dict(zip(calls, run.together(*calls.values()), strict=True)) if calls else {}
        return compared(batch, *(said[role].logprobs if role in said else None for role in ("policy", "reference")))

    def experience(
        self, batch: ScoredBatch, models: Compared, advantages: Tensor, kept_B: Tensor | None = None
    ) -> Experience:
        """What a step of updates needs, of all rows or of those that `kept_B` has."""
        mask, config = batch.response_mask, self.config
        correction = self._correction(batch, models)
        experience = Experience(
            tokens=batch.tokens,
            attention_mask=batch.attention_mask,
            response_mask=mask,
            old_logprobs=models.old_logprobs,
            advantages=advantages,
            ref_logprobs=models.ref_logprobs if config.kl_penalty != "k1_in_reward" else None,
            correction=None if correction is None else correction.weights,
            sampled_logprobs=batch.sampled_logprobs if models.old_logprobs is None and not batch.is_stale else None,
        )
        group_B = batch.group_B
        if kept_B is not None:
            experience, group_B = experience[kept_B], group_B[kept_B]
        if config.aggregation == "prompt_mean":
            experience = replace(experience, loss_weights=prompt_mean(experience.response_mask, group_B)[0])
        return experience

    def figures(self, batch: ScoredBatch, models: Compared) -> Metrics:
        """How far the policy is from the reference, and the train engine from the rollout engine, where no update tells
        it.
        """
        mask, gap = batch.response_mask, models.gap
        if gap is None:
            return {} if models.ref_logprobs is None else {"policy/kl_coef": self.kl_coef}
        figures: Metrics = {}
        if not batch.is_stale:  # else it is the policies that differ, not the engines
            figures["rollout/logprob_gap"] = float(gap.mean)
            figures["rollout/logprob_gap_max"] = float(gap.largest)
            figures["rollout/logprob_error"] = float(gap.token_error)
        if models.ref_logprobs is not None:
            figures["policy/kl_to_reference"] = float(models.kl.sum(1).mean())
            figures["policy/kl_coef"] = self.kl_coef
        found = self._correction(batch, models)
        if found is not None:
            figures["rollout/correction"] = float(masked_mean(found.ratio, mask))
            figures["rollout/correction_capped"] = float(masked_mean((found.ratio > found.weights).float(), mask))
            figures["rollout/correction_chi2"] = float(chi_square(found.ratio, mask))
            figures["rollout/effective_samples"] = float(effective_sample_share(found.ratio, mask))
        return figures

    def _correction(self, batch: ScoredBatch, models: Compared) -> Correction | None:
        config, level = self.config, self._correction_level(batch)
        if level == "off":
            return None
        assert models.old_logprobs is not None
        return sampling_correction(
            models.old_logprobs,
            batch.sampled_logprobs,
            batch.response_mask,
            level,
            config.correction_cap,
            config.correction_beyond,
        )

    # --- updates ---------------------------------------------------------------------------------------------------

    @property
    def token_weights(self) -> TokenWeights:
        """How the losses of tokens are weighed."""
        return TokenWeights(self.config.aggregation, self.config.loss_length or 1)

    def policy_loss(self) -> PolicyLoss:
        """The loss of this step, at the coefficient of this step."""
        config = self.config
        return PolicyLoss(
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            kl_coef=0.0 if config.kl_penalty == "k1_in_reward" else self.kl_coef,
            kl_estimator="k2" if config.kl_penalty == "k2_in_loss" else "k3",
            entropy_coef=config.entropy_coef,
            max_drift=config.max_drift,
            weights=self.token_weights,
        )

    def improve(self, run: Run, experience: Experience, step: int) -> Metrics:
        """Epochs of clipped updates over shuffled minibatches."""
        shuffle = torch.Generator().manual_seed(step)
        collected: list[Metrics] = []
        for _ in range(self.config.epochs):
            order = torch.randperm(len(experience), generator=shuffle)
            for minibatch in experience[order].split(self.config.minibatch_size):
                collected.append(self.update(run, minibatch, step))
                if self.config.target_kl and collected[-1].get("policy/approx_kl", 0.0) > self.config.target_kl:
                    return _summed_up(collected)
        return _summed_up(collected)

    def update(self, run: Run, minibatch: Experience, step: int) -> Metrics:
        """One optimizer step."""
        (metrics,) = run.together(lambda: run.policy.train_step(minibatch, self.policy_loss()))
        return dict(metrics)

    # --- around the run --------------------------------------------------------------------------------------------

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Reward of one sample for each held-out prompt, and its KL to the reference where there is one."""
        prompts = run.held_out_prompts()
        if not prompts:
            return {}
        batch = run.collate(run.score(run.sample(prompts, 1)))
        rewards = {"reward": batch.scores_B.tolist()}
        if "reference" not in self.needs:
            return rewards
        return {**rewards, "kl_to_reference": self.compare(run, batch, old=True).kl.sum(1).tolist()}

    def state(self) -> dict[str, float]:
        return {"kl_coef": self.kl_coef}

    def restore(self, state: Mapping[str, float]) -> None:
        self.kl_coef = state["kl_coef"]


def of_every_token(advantages_B: Tensor, mask: Tensor) -> Tensor:
    """A row's advantage on each of its tokens, `[B, T]`."""
    return torch.where(mask, advantages_B.unsqueeze(1), 0)


def _require_one_policy(gap: float, limit: float | None) -> None:
    """Refuse samples of another policy than the one that is trained, before weights trained on them go anywhere."""
    if limit is not None and not gap <= limit:
        raise RunError(
            f"rollout and train engine differ by {gap:.3g} nats a token on the same samples, more than "
            f"algorithm.max_logprob_gap ({limit:g}); no weights trained on them were kept. Likely causes: weights that "
            "are old or never arrived (a tied head), another number format (model.dtype), another temperature, another "
            "tokenizer or chat template on one side. Where the engines differ by nature, raise the limit (null: none) "
            "and set algorithm.correction"
        )


def _summed_up(collected: Sequence[Metrics]) -> Metrics:
    """Mean of each figure over the updates that report it, and how many updates of the policy there were."""
    return {"policy/updates": float(sum("policy/loss" in metrics for metrics in collected)), **mean_of(collected)}
