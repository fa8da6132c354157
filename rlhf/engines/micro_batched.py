"""What every train engine has in common: a global batch in micro-batches, one division by the global count, one step.

    total = sum over micro-batches and processes of loss_fn(output, rows).total
    gradient = d(total / count)

The count is taken once from the whole batch, so neither micro-batch size nor the number of processes changes a step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf.config import RoleSpec
from rlhf.engines.embedding_noise import noised_embeddings
from rlhf.engines.layout import Packing
from rlhf.engines.lora import adapters_off, train_dropout
from rlhf.engines.memory_faults import TO_LEARN, TO_READ, memory_named
from rlhf.engines.microbatches import micro_batches, restore, to_device, write_batch
from rlhf.engines.models import Output, RoleModel, read
from rlhf.engines.optimizer import learning_rate
from rlhf.engines.pretrained import context_limit
from rlhf.engines.random_numbers import drawn_for_step
from rlhf.engines.settings import EngineConfig
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.functional.distillation import FORWARD_KL, Divergence
from rlhf.protocols import Loss
from rlhf.types import Batch, LossSum, Metrics, PolicyOutput


class MicroBatchedEngine(ABC):
    """`forward` and `train_step` over `self.module`; a subclass says how to go backward and how to step."""

    config: EngineConfig
    spec: RoleSpec
    model: RoleModel
    packing: Packing
    device: torch.device
    steps: int
    """Optimizer steps taken since the run began."""
    skipped: int = 0
    """Steps in a row, the latest of all, that were not taken."""

    @abstractmethod
    def _backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of `loss`, already divided by the global count; `last` marks a step's last micro-batch."""

    @abstractmethod
    def _apply(self, lr: float) -> float:
        """Clip, step with this rate, drop the gradients; returns the norm before clipping.

        Where that norm is not finite, nothing is stepped.
        """

    @abstractmethod
    def _reduced(self, sums: Tensor) -> Tensor:
        """Sums over the processes."""

    @abstractmethod
    def _highest(self, peaks: Tensor) -> Tensor:
        """The largest over the processes, element by element."""

    @property
    def _callable(self) -> Any:
        """What is called: the module, or what DeepSpeed made of it."""
        return self.model

    def forward(self, batch: Batch) -> Any:
        """The role's output for every row, in the batch's order; `[B, T]` fields are zero where no mask asks."""
        return self._forward_rows(batch)

    @torch.no_grad()
    def _forward_rows(self, batch: Batch) -> Any:
        """`forward` of this process's rows."""
        self._check(batch)
        self.model.eval()
        home = batch.inputs.tokens.device
        measured = None if self.spec.teacher is None else FORWARD_KL
        with memory_named(f"the {self.spec.role}", f"reading {self._size_of(batch)}", TO_READ):
            pieces = [
                (rows, _moved(self._read(self._here(piece), entropy_grad=False, divergence=measured), home))
                for rows, piece in self._pieces(batch)
            ]
            return restore(pieces, batch)

    def _pieces(self, batch: Batch) -> list[tuple[Tensor, Batch]]:
        """This process's rows cut into micro-batches, with their places in it."""
        return micro_batches(batch, self._tokens_at_once, self.packing)

    @property
    def _tokens_at_once(self) -> int:
        return self.config.micro_batch_tokens or TOKENS_AT_ONCE[self.device.type]

    def _size_of(self, batch: Batch) -> str:
        """What an error says of it."""
        rows = batch.inputs
        return f"{len(rows)} rows of {int(rows.lengths_B.sum())} tokens, at most {self._tokens_at_once} tokens at once"

    def _here(self, piece: Batch) -> Batch:
        return to_device(piece, self.device)  # type: ignore[type-var]

    def base_forward(self, batch: Batch) -> PolicyOutput:
        """`forward` of the model as it was before its adapters: the reference of a LoRA policy."""
        if self.spec.model.lora is None:
            raise ConfigError(f"the {self.spec.role} has no adapters; a reference of its own is needed")
        with adapters_off(self.model):
            output = self.forward(batch)
        assert isinstance(output, PolicyOutput)
        return output

    def train_step(self, batch: Batch, loss_fn: Loss[Any]) -> Metrics:
        """One optimizer step over the whole batch; metrics are the same in every process.

        A step whose loss or gradient is not finite is not taken: the batch is written to a file, and `ROLE/skipped`
        is 1. Raises `RunError` after `optimizer.max_skipped` of them in a row.
        """
        if self.spec.optimizer is None:
            raise ConfigError(f"the {self.spec.role} has no optimizer and cannot be trained")
        count = loss_fn.count(batch)
        if not count > 0:
            raise DataError(f"the batch has nothing to train on: {type(loss_fn).__name__} counts {count}")
        doing = f"learning in optimizer step {self.steps + 1} from {self._size_of(batch)}"
        with memory_named(f"the {self.spec.role}", doing, TO_LEARN):
            with drawn_for_step(self.device, self.spec.seed, self.steps, self._rank):
                totals, peaks = self._accumulate(self._mine(batch), loss_fn, count)
            loss = totals.pop(_LOSS)[0] / count
            if not math.isfinite(loss):
                self._drop_gradients()
                return self._skip(batch, f"loss is {loss}")
            lr = learning_rate(self.spec.optimizer, self.steps, self.spec.num_steps)
            norm = self._apply(lr)
        if not math.isfinite(norm):
            return self._skip(batch, f"gradient norm is {norm} though its loss is finite")
        self.steps += 1
        self.skipped = 0
        role = self.spec.role
        metrics = {name: _ratio(total, number) for name, (total, number) in totals.items()} | peaks
        return {**metrics, f"{role}/loss": loss, f"{role}/grad_norm": norm, f"{role}/lr": lr, f"{role}/skipped": 0.0}

    def _mine(self, batch: Batch) -> Batch:
        """The rows of a global batch that fall to this process."""
        return batch

    def _accumulate(
        self, batch: Batch, loss_fn: Loss[Any], count: float
    ) -> tuple[dict[str, tuple[float, float]], Metrics]:
        """Gradients of this process's rows, divided by the global count; sums and peaks over all processes."""
        self._check(batch)
        self._training_mode()
        pieces = [piece for _, piece in self._pieces(batch)]
        sums: dict[str, Tensor] = {}
        peaks: dict[str, Tensor] = {}
        for index, piece in enumerate(map(self._here, pieces)):
            with self._noise(piece, loss_fn):
                output = self._read(
                    piece,
                    entropy_grad=getattr(loss_fn, "entropy_grad", True),
                    divergence=getattr(loss_fn, "divergence", None),
                    share=not getattr(loss_fn, "embedding_noise", 0.0),
                )
            loss = loss_fn(output, piece)
            self._backward(loss.total / count, last=index + 1 == len(pieces))
            _add(sums, loss)
            for name, peak in loss.peaks.items():
                peaks[name] = torch.maximum(peaks.get(name, peak), peak)
        names, tops = sorted(sums), sorted(peaks)
        totals = self._reduced(torch.stack([sums[name] for name in names])).tolist()
        highest = self._highest(torch.stack([peaks[name] for name in tops])).tolist() if tops else []
        return {name: (total, number) for name, (total, number) in zip(names, totals, strict=True)}, dict(
            zip(tops, highest, strict=True)
        )

    def _skip(self, batch: Batch, what: str) -> Metrics:
        """Keep the batch for inspection and go on, unless this has happened too often in a row."""
        assert self.spec.optimizer is not None
        role, number = self.spec.role, self.steps + 1
        self.skipped += 1
        where = ""
        if self.spec.folder is not None:
            path = Path(self.spec.folder) / "not_finite" / f"{role}-step-{number}-{self.skipped}.safetensors"
            if self._rank == 0:
                write_batch(path, batch, f"the {role}'s {what}")
            where = f" The batch is in {path}."
        if self.skipped > self.spec.optimizer.max_skipped:
            raise RunError(
                f"the {role}'s {what} in optimizer step {number}, {self.skipped} times in a row; no such step was "
                f"taken.{where} Lower the learning rate, or look for rewards and advantages out of range"
            )
        return {f"{role}/skipped": 1.0}

    @property
    def _rank(self) -> int:
        """This process among those of the role; the first writes for all."""
        return 0

    @abstractmethod
    def _drop_gradients(self) -> None: ...

    def _read(self, piece: Batch, *, entropy_grad: bool, divergence: Divergence | None, share: bool = True) -> Output:
        return read(
            self._callable,
            self.spec.role,
            piece.inputs,
            packing=self.packing,
            share=share,
            entropy_grad=entropy_grad,
            divergence=divergence,
        )

    def _noise(self, piece: Batch, loss_fn: Loss[Any]) -> AbstractContextManager[None]:
        """What a loss with `embedding_noise` asks for; only ever in training."""
        return noised_embeddings(
            self.model.network.get_input_embeddings(),
            piece.inputs,
            alpha=getattr(loss_fn, "embedding_noise", 0.0),
            packing=self.packing,
            seed=self.spec.seed,
            step=self.steps,
        )

    def _training_mode(self) -> None:
        """Dropout is off everywhere but in adapters; checkpointing of activations only works in training mode."""
        self.model.train(self.spec.model.gradient_checkpointing)
        if self.spec.model.lora is not None:
            train_dropout(self.model)

    def _check(self, batch: Batch) -> None:
        """Raises `DataError` on rows longer than the context and on tokens outside the vocabulary."""
        rows = batch.inputs
        if len(rows) == 0:
            raise DataError(f"an empty batch was given to the {self.spec.role}")
        config = self.model.network.config
        longest, limit = int(rows.lengths_B.max()), context_limit(self.spec.model, config)
        if limit is not None and longest > limit:
            raise DataError(f"a row of {longest} tokens was given to the {self.spec.role}, whose context is {limit}")
        highest, vocab_size = int(rows.tokens.max()), config.get_text_config().vocab_size
        if highest >= vocab_size or int(rows.tokens.min()) < 0:
            raise DataError(
                f"token {highest} was given to the {self.spec.role}, whose vocabulary has {vocab_size}; "
                "is the tokenizer that of another model?"
            )


TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 8192}
"""Where the recipe does not say: on a CPU more do not make its products faster."""

_LOSS = "\0loss"
"""Key of the loss itself among the sums; no metric can have it."""


def _add(sums: dict[str, Tensor], loss: LossSum) -> None:
    """Sums in float64: thousands of micro-batches may be added."""
    parts = {_LOSS: (loss.total, torch.ones_like(loss.total)), **loss.sums}
    for name, pair in parts.items():
        both = torch.stack([part.detach().double() for part in pair])
        sums[name] = sums[name] + both if name in sums else both


def _ratio(total: float, number: float) -> float:
    return total / number if number else 0.0


def _moved(output: Output, device: torch.device) -> Output:
    """Outputs return to where their batch came from."""
    return type(output)(**{name: value.to(device) for name, value in vars(output).items()})
