"""Language modelling and SFT: next-token prediction on whole documents, or on the assistant's words only.

The two differ in their rows, not in their maths: SFT's mask leaves out what the assistant did not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.protocols import Algorithm, Run
from rlhf.types import LossSum, PolicyOutput, TokenBatch


class SupervisedConfig(PassesConfig):
    """Options of `pretrain` and `sft`."""


class SFTConfig(SupervisedConfig):
    """Options of `sft`."""

    neftune_alpha: float = Field(default=0.0, ge=0)
    """Size of the noise on the embeddings of a row in training, against repeating demonstrations word by word (NEFTune,
    arXiv:2310.05914); 5 is usual, 0 is none.
    """


@dataclass(frozen=True)
class NextTokenLoss:
    """Cross entropy of the masked tokens: -sum_t w_t log p(x_t | x_<t), over the sum of the weights w."""

    embedding_noise: float = 0.0
    """NEFTune's alpha, which the engine reads: it adds the noise in training and nowhere else."""
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: TokenBatch) -> float:
        return float(token_weights(batch).sum())

    def __call__(self, output: PolicyOutput, batch: TokenBatch) -> LossSum:
        weights = token_weights(batch)
        zero = torch.zeros((), dtype=output.logprobs.dtype, device=output.logprobs.device)
        total = -(torch.where(batch.response_mask, output.logprobs, zero) * weights).sum()
        entropy = torch.where(batch.response_mask, output.entropy, zero).sum()
        return LossSum(total=total, sums={"policy/entropy": (entropy.detach(), batch.response_mask.sum())})


def token_weights(batch: TokenBatch) -> Tensor:
    """Weight of each trained token, zero elsewhere, `[B, T]`."""
    if batch.loss_weights is None:
        return batch.response_mask.float()
    return torch.where(batch.response_mask, batch.loss_weights, torch.zeros_like(batch.loss_weights))


class _Supervised(Algorithm):
    """The loop both share; a subclass says which rows."""

    needs = frozenset({"policy"})

    def __init__(self, config: SupervisedConfig) -> None:
        self.config = config
        self.loss = NextTokenLoss()

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def batches(self, run: Run) -> Iterator[tuple[int, TokenBatch]]:
        raise NotImplementedError

    def held_out(self, run: Run) -> TokenBatch | None:
        raise NotImplementedError

    def run(self, run: Run) -> None:
        for step, batch in self.batches(run):
            run.finish_step(step, run.policy.train_step(batch, self.loss))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Mean negative log-likelihood of each held-out row."""
        batch = self.held_out(run)
        if batch is None:
            return {}
        weights = token_weights(batch)
        logprobs = torch.where(weights > 0, run.policy.forward(batch).logprobs, torch.zeros_like(weights))
        return {"loss": (-(logprobs * weights).sum(1) / weights.sum(1)).tolist()}


class Pretrain(_Supervised):
    """Causal language modelling on documents, from scratch or continued (`data: mixture` replays original data)."""

    consumes = "texts"

    def batches(self, run: Run) -> Iterator[tuple[int, TokenBatch]]:
        return run.texts(self.config.batch_size)

    def held_out(self, run: Run) -> TokenBatch | None:
        return run.held_out_texts()


class SFT(_Supervised):
    """Supervised fine-tuning on demonstrations (Ouyang et al. 2022, arXiv:2203.02155, section 3.5)."""

    consumes = "demonstrations"

    def __init__(self, config: SFTConfig) -> None:
        super().__init__(config)
        self.loss = NextTokenLoss(embedding_noise=config.neftune_alpha)

    def batches(self, run: Run) -> Iterator[tuple[int, TokenBatch]]:
        return run.demonstrations(self.config.batch_size)

    def held_out(self, run: Run) -> TokenBatch | None:
        return run.held_out_demonstrations()
