"""PPO under a limit on cost: the most reward whose mean cost stays within it (PPO-Lagrangian).

Safe RLHF (Dai et al. 2023, arXiv:2310.12773). A multiplier lambda is the price of cost: it rises while the moving
average of the cost is above the limit and falls while below. The policy follows `(A_R - lambda A_C) / (1 + lambda)`.

Cost has a value model of its own (the role `cost_value`), as in the paper: one value model of the combined signal would
have to learn anew whenever lambda moves, and until it has, its advantages would be of an old price. Two models each
learn a target that does not know lambda, and advantages, which are linear in rewards, are combined at today's price.

The KL penalty is charged to the reward and credited to the cost, `R - beta KL` and `C + beta KL`, so that in the
combination its weight is beta whatever lambda is. A cut completion's cost counts as it stands: what was said was said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field, model_validator

from rlhf.algorithms.compared import compared
from rlhf.algorithms.ppo import PPO, PPOConfig, ValueLoss
from rlhf.functional.lagrangian import moving_average, stepped_within, whiten_lagrangian
from rlhf.protocols import Run
from rlhf.types import ConstrainedExperience, Experience, LossSum, Metrics, ScoredBatch, ValuedExperience, ValueOutput


class PPOLagrangianConfig(PPOConfig):
    """Options of `ppo_lagrangian`, beside those of `ppo`."""

    cost_limit: float
    """Mean cost of a completion that the policy is to stay within, in the unit of the stage's `cost`."""
    multiplier: float = Field(default=1.0, ge=0)
    """Price of cost, lambda, to begin with."""
    multiplier_lr: float = Field(default=0.1, gt=0)
    """By how much lambda moves in a step for a cost of 1 above the limit."""
    multiplier_gain: float = Field(default=0.0, ge=0)
    """What a step's price has beside lambda for an average cost of 1 above the limit, less for one below. Lambda alone
    turns only after the limit is passed and swings about it; this damps the swings (Stooke et al. 2020,
    arXiv:2007.03964).
    """
    multiplier_max: float = Field(default=100.0, gt=0)
    cost_decay: float = Field(default=0.5, ge=0, lt=1)
    """What a step's mean cost still weighs in the moving average one step later; 0: lambda follows each step's own."""

    @model_validator(mode="after")
    def _begins_within_bounds(self) -> PPOLagrangianConfig:
        if self.multiplier > self.multiplier_max:
            raise ValueError(f"multiplier {self.multiplier:g} is above multiplier_max {self.multiplier_max:g}")
        return self


@dataclass(frozen=True)
class CostValueLoss(ValueLoss):
    """The value model's loss, of costs."""

    def __call__(self, output: ValueOutput, batch: ValuedExperience) -> LossSum:
        assert isinstance(batch, ConstrainedExperience)
        loss = super().__call__(output, replace(batch, old_values=batch.cost_values, returns=batch.cost_returns))
        return LossSum(total=loss.total, sums={f"cost_{name}": pair for name, pair in loss.sums.items()})


class PPOLagrangian(PPO):
    """PPO on reward and cost at once, the price of cost steered by its limit."""

    constrained = True

    def __init__(self, config: PPOLagrangianConfig) -> None:
        super().__init__(config)
        self.limits = config
        self.needs = frozenset({"policy", "reference", "value", "cost_value", "rollout"})
        self.cost_value_loss = CostValueLoss(config.value_clip, self.token_weights)
        self.multiplier = config.multiplier
        self.average_cost: float | None = None

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[ConstrainedExperience, Metrics]:
        """What the models think of the samples, as advantages at today's price of cost."""
        assert batch.costs_B is not None
        policy, reference, value, cost_value = run.together(
            lambda: run.policy.forward(batch),
            lambda: run.reference.forward(batch),
            lambda: run.value.forward(batch),
            lambda: run.cost_value.forward(batch),
        )
        models, mask = compared(batch, policy.logprobs, reference.logprobs), batch.response_mask
        scores_B, final_values_B = self.ends(batch, value.final_values_B)
        penalty = self.kl_in_reward * models.kl
        reward = self.credit(scores_B, penalty, mask, value.values, final_values_B)
        cost = self.credit(batch.costs_B, -penalty, mask, cost_value.values, None)

        price = self._price(float(batch.costs_B.mean()))
        advantages = whiten_lagrangian(reward.advantages, cost.advantages, mask, price)
        experience = self.experience(batch, models, advantages)
        constrained = ConstrainedExperience(
            **dict(experience.tensors()),
            old_values=reward.values,
            returns=reward.returns,
            cost_values=cost.values,
            cost_returns=cost.returns,
        )
        return constrained, {
            **self.figures(batch, models),
            "value/explained_variance": reward.explained_variance(mask),
            "cost_value/explained_variance": cost.explained_variance(mask),
            "cost/average": self.average_cost or 0.0,
            "cost/multiplier": price,
        }

    def _price(self, mean_cost: float) -> float:
        """Move lambda by this step's cost, and say what cost is priced at in this step."""
        limits = self.limits
        self.average_cost = moving_average(self.average_cost, mean_cost, limits.cost_decay)
        beyond, most = self.average_cost - limits.cost_limit, limits.multiplier_max
        self.multiplier = stepped_within(self.multiplier, limits.multiplier_lr * beyond, most)
        return stepped_within(self.multiplier, limits.multiplier_gain * beyond, most)

    def update(self, run: Run, minibatch: Experience, step: int) -> Metrics:
        """One optimizer step of each model; of the value models alone while they warm up."""
        calls = [
            lambda: run.value.train_step(minibatch, self.value_loss),
            lambda: run.cost_value.train_step(minibatch, self.cost_value_loss),
        ]
        if step > self.config.value_warmup_steps:
            calls.append(lambda: run.policy.train_step(minibatch, self.policy_loss()))
        return {name: figure for metrics in run.together(*calls) for name, figure in metrics.items()}

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Reward, cost and KL to the reference of one sample for each held-out prompt."""
        prompts = run.held_out_prompts()
        if not prompts:
            return {}
        batch = run.collate(run.score(run.sample(prompts, 1)))
        assert batch.costs_B is not None
        kl_B = self.compare(run, batch, old=True).kl.sum(1)
        return {"reward": batch.scores_B.tolist(), "cost": batch.costs_B.tolist(), "kl_to_reference": kl_B.tolist()}

    def state(self) -> dict[str, float]:
        average = {} if self.average_cost is None else {"average_cost": self.average_cost}
        return {**super().state(), "multiplier": self.multiplier, **average}

    def restore(self, state: Mapping[str, float]) -> None:
        super().restore(state)
        self.multiplier = state["multiplier"]
        self.average_cost = state.get("average_cost")
