"""What holds a model: it trains, or it generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rlhf.types import (
    Batch,
    Completion,
    Fingerprint,
    LossSum,
    Metrics,
    Prompt,
    Sampling,
)

if TYPE_CHECKING:
    from torch import Tensor

Out_co = TypeVar("Out_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)


class Loss(Protocol[Out_contra]):
    """A loss: an instance of an importable, frozen dataclass, so that it crosses to a worker as name and config."""

    @property
    def entropy_grad(self) -> bool:
        """Whether the engine must keep the graph of `PolicyOutput.entropy`."""
        ...

    def count(self, batch: Any) -> float:
        """The global denominator, from the whole batch: response tokens, sequences or prompts."""
        ...

    def __call__(self, output: Out_contra, batch: Any) -> LossSum:
        """The loss summed over the mask, not divided."""
        ...


class TrainEngine(Protocol[Out_co]):
    """A model that can be run, and (policy, value, reward model in training) improved."""

    def forward(self, batch: Batch) -> Out_co:
        """Output for every row, in the batch's order, without gradients."""
        ...

    def train_step(self, batch: Batch, loss_fn: Loss[Any]) -> Metrics:
        """One optimizer step over the whole batch; micro-batching and data parallelism do not change its result."""
        ...

    def weights(self, *, base: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Full, unsharded weights under Hugging Face names, tied heads included, adapters merged, in the format that
        the model computes in (`model.dtype`).

        With `model.lora.hand_over: adapter` the weights beneath adapters come as they are, and beside them `A` and
        `(alpha / r) B` as `LAYER.lora_A.weight` and `LAYER.lora_B.weight`; only then is it asked without `base`, for
        those alone.
        """
        ...

    def fingerprints(self) -> Mapping[str, Fingerprint] | None:
        """Of the live parameters, under the names and in the format of `weights`; what its receiver is compared with.

        A guest may leave this out, or return None, here or in the rollout engine: its weights are then handed on
        without proof, and the run says so.
        """
        ...

    def export(self, path: Path) -> None:
        """Write a checkpoint that transformers' `from_pretrained` loads (safetensors)."""
        ...

    def save(self, path: Path) -> None:
        """Write all that `load` needs to continue training as if it had never stopped."""
        ...

    def load(self, path: Path) -> None: ...

    def sleep(self) -> None:
        """Give device memory back until `wake`. A guest may leave both out, and keeps it."""
        ...

    def wake(self) -> None: ...


class RolloutEngine(Protocol):
    """A model that generates."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.num_samples` completions for each prompt, in the prompts' order. Prompts carry `token_ids`."""
        ...

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """`generate` in pieces: now and then, at best after every token, the places of the prompts all of whose
        completions have ended since, with these; often none. Between two pieces new weights may be loaded, by which
        the rest is then written. A guest may leave this out.
        """
        ...

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        """Replace every weight by the one of its name; raises `RunError` on one that is missing, unknown, or of another
        shape or format. Where only adapters come, the weights beneath them stay.
        """
        ...

    def fingerprints(self) -> Mapping[str, Fingerprint] | None:
        """Of the weights it holds after `load_weights`, by the trainer's names. A guest may leave this out."""
        ...

    def sleep(self) -> None:
        """Give device memory back between rollouts. `load_weights` may follow, and wakes nothing but the weights."""
        ...

    def wake(self) -> None: ...
