"""The seams. A Ray group of actors satisfies the same protocol as the engine in this process.

Text and token ids cross `RolloutEngine`, `RewardFn` and `Grader`; whole global batches cross `TrainEngine`. Whoever
spreads a batch over ranks hands each its rows together with the global counts, so an algorithm never sees world size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from rlhf.types import (
    Axis,
    Batch,
    Completion,
    Demonstration,
    Fingerprint,
    Grade,
    LabelledBatch,
    LabelledCompletion,
    LossSum,
    Metrics,
    PolicyOutput,
    PreferenceBatch,
    Prompt,
    Ranking,
    RewardOutput,
    Rollout,
    Sampling,
    ScoredBatch,
    StepBatch,
    SteppedCompletion,
    TokenBatch,
    ValueOutput,
    Vocabulary,
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


class RolloutEngine(Protocol):
    """A model that generates."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.num_samples` completions for each prompt, in the prompts' order. Prompts carry `token_ids`."""
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
        """Give device memory back between rollouts; `wake` before the next."""
        ...

    def wake(self) -> None: ...


@runtime_checkable
class RewardFn(Protocol):
    """Scores rollouts. Plain `def reward(prompts, completions, **columns) -> list[float]` is adapted to this."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One finite number a rollout, or None where this reward does not apply."""
        ...


class Grader(Protocol):
    """Judges rollouts on one of the three axes."""

    axis: Axis

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]: ...


class Dataset(Protocol):
    """Rows in a deterministic order: the same seed gives the same sequence, and `start` skips what was consumed.

    Iterators are endless (each epoch is shuffled anew from the seed); `sizes` tells the rows of each kind in one
    epoch, and a kind that is absent there raises `DataError` naming the kinds there are.
    """

    sizes: Mapping[str, int]
    """Rows of each kind ("texts", "prompts", "demonstrations", "rankings", "labelled", "stepwise") in one epoch."""

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        """Documents for language modelling."""
        ...

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]: ...

    def demonstrations(self, seed: int, start: int = 0) -> Iterator[Demonstration]: ...

    def rankings(self, seed: int, start: int = 0) -> Iterator[Ranking]: ...

    def labelled(self, seed: int, start: int = 0) -> Iterator[LabelledCompletion]:
        """Completions judged one by one."""
        ...

    def stepwise(self, seed: int, start: int = 0) -> Iterator[SteppedCompletion]:
        """Completions judged step by step."""
        ...

    def held_out(self) -> Dataset | None:
        """The rows kept from training; None where none are."""
        ...


JudgingRole = Literal["reward", "cost"]
HeadScores = Mapping[str, list[float]]
"""Scores of rollouts, in their order, by the name of a model's head."""


class Parts(Protocol):
    """What a reward or grader may ask the run for when it is built; siblings meet here."""

    def grader(self, name: str) -> Grader:
        """A registered grader with its default options."""
        ...

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Scores of the stage's reward model, which lives in its own role: the sum of its heads, the mean of an
        ensemble's members.
        """
        ...

    def model_scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        """Of each member of the stage's reward or cost model, the scores of the rollouts by head."""
        ...

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        """Of each member, the score of every step of each rollout; steps are what `separator` parts."""
        ...

    def model_heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        """Names of the heads of each member; a lone head is called `score`."""
        ...


class Tracker(Protocol):
    """A sink for metrics. Its failure never stops a run; it is said once and the tracker is dropped."""

    def log(self, step: int, metrics: Metrics) -> None: ...

    def close(self) -> None: ...


class Run(Protocol):
    """What an algorithm sees. Timing, logging, hooks, checkpoints and stopping live behind it."""

    @property
    def policy(self) -> TrainEngine[PolicyOutput]: ...

    @property
    def reference(self) -> TrainEngine[PolicyOutput]:
        """Only ever runs forward."""
        ...

    @property
    def value(self) -> TrainEngine[ValueOutput]: ...

    @property
    def cost_value(self) -> TrainEngine[ValueOutput]:
        """The value model of costs."""
        ...

    @property
    def reward(self) -> TrainEngine[RewardOutput]: ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the stage's tokenizer."""
        ...

    def texts(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch) until the last step; rows are documents cut at the context length."""
        ...

    def demonstrations(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]: ...

    def rankings(self, num_prompts: int) -> Iterator[tuple[int, PreferenceBatch]]: ...

    def labelled(self, num_rows: int) -> Iterator[tuple[int, LabelledBatch]]: ...

    def stepwise(self, num_rows: int, separator: str) -> Iterator[tuple[int, StepBatch]]:
        """Steps are joined by `separator` into one completion."""
        ...

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]: ...

    def more_prompts(self, num_prompts: int) -> list[Prompt]:
        """The next prompts within the same step, for methods that sample until they have enough."""
        ...

    def sample(self, prompts: Sequence[Prompt], num_samples: int, *, greedy: bool = False) -> list[Rollout]:
        """Completions of the current policy; samples of one prompt stand next to each other.

        A second call for a prompt within a step draws anew. `greedy` takes the likeliest token each time; log-probs
        are then those at temperature 1.
        """
        ...

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with rewards; those whose reward failed are dropped and counted."""
        ...

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        """Token rows (prompt + completion) with scores."""
        ...

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Results of calls that touch different roles; at the same time where those live in different processes."""
        ...

    def publish_weights(self) -> None:
        """Hand the policy's weights to the rollout engine under the next version."""
        ...

    def note(self, text: str) -> None:
        """Say something worth a line to whoever watches the run."""
        ...

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout] = ()) -> None:
        """Log, call hooks, checkpoint when due. Ends the step; raises `Interrupted` when asked to stop."""
        ...

    def held_out_texts(self) -> TokenBatch | None:
        """The stage's held-out rows as one batch; None where the data keeps none. So for those that follow."""
        ...

    def held_out_demonstrations(self) -> TokenBatch | None: ...

    def held_out_rankings(self) -> PreferenceBatch | None: ...

    def held_out_labelled(self) -> LabelledBatch | None: ...

    def held_out_stepwise(self, separator: str) -> StepBatch | None: ...

    def held_out_prompts(self) -> list[Prompt]: ...


class Algorithm(Protocol):
    """A method: one class, built from its own config. Inherit from it for what few methods change."""

    needs: frozenset[str]
    """Roles it uses, of policy, reference, reward, value, cost_value, rollout; with rollout it runs on actor groups."""
    consumes: str
    """The kind of rows it takes: texts, demonstrations, rankings, labelled, stepwise or prompts."""
    network: Literal["decoder", "encoder", "encoder_decoder"] = "decoder"
    """The kind of network the policy is."""
    heads: tuple[str, ...] = ()
    """Heads of the reward model it trains; empty: one."""
    head_column: str = "axis"
    """The column of a ranking's row (of `Prompt.metadata`) that names the head it trains."""
    constrained: bool = False
    """Learns from costs as well as rewards; its stage must name some."""
    updates_per_step: int = 1
    """Optimizer steps in one step of the run; learning-rate schedules span them all."""

    def num_steps(self, rows_per_epoch: int) -> int:
        """Steps of the whole run, given how many rows an epoch has."""
        ...

    def run(self, run: Run) -> None: ...

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Figures of the model as it is, one per held-out row; the run takes them before the first step and after the
        last, and reports means with intervals.
        """
        return {}

    def state(self) -> dict[str, float]:
        """What must survive a restart besides the models (an adaptive coefficient, say)."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take up what `state` returned."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but a checkpoint has {dict(state)}")
