"""A method in one file: REINFORCE with a moving average of past rewards as its baseline (Williams 1992).

In a recipe: `plugins: {paths: [moving_baseline.py]}` and `algorithm: {type: moving_baseline, steps: 40}`. Everything
else (data, rewards, models, engines, Ray) is the recipe's business and not the method's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlhf import PartConfig, hookimpl
from rlhf.functional.policy_loss import policy_gradient_loss
from rlhf.protocols import Algorithm, Run
from rlhf.types import Experience, LossSum, PolicyOutput


class Config(PartConfig):
    """Options of `moving_baseline`."""

    steps: int
    prompts_per_step: int = 64
    decay: float = 0.9  # of the moving average, per step


@dataclass(frozen=True)
class Loss:
    """-A log pi, summed over the tokens the policy chose."""

    entropy_grad: ClassVar[bool] = False

    def count(self, batch: Experience) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: PolicyOutput, batch: Experience) -> LossSum:
        losses = policy_gradient_loss(output.logprobs, batch.advantages, batch.response_mask)
        return LossSum(total=losses.sum(), sums={})


class MovingBaseline(Algorithm):
    """What is better than usual becomes likelier."""

    needs = frozenset({"policy", "rollout"})
    consumes = "prompts"

    def __init__(self, config: Config) -> None:
        self.config, self.baseline = config, 0.0

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            rollouts = run.score(run.sample(prompts, 1))
            batch = run.collate(rollouts)
            advantages = (batch.scores_B - self.baseline).unsqueeze(1) * batch.response_mask
            rows = {name: getattr(batch, name) for name in ("tokens", "attention_mask", "response_mask")}
            experience = Experience(**rows, old_logprobs=batch.sampled_logprobs, advantages=advantages)
            metrics = run.policy.train_step(experience, Loss())
            mean = float(batch.scores_B.mean())
            self.baseline += (1 - self.config.decay) * (mean - self.baseline)
            run.publish_weights()
            run.finish_step(step, {**metrics, "reward/baseline": self.baseline}, rollouts)

    def state(self) -> dict[str, float]:
        return {"baseline": self.baseline}

    def restore(self, state: Mapping[str, float]) -> None:
        self.baseline = state["baseline"]


@hookimpl
def register_algorithms(register: Callable[..., Any]) -> None:
    """Make it known as `moving_baseline`."""
    register("moving_baseline", MovingBaseline, config=Config)
