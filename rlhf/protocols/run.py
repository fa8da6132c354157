"""A method, what it sees of its run, and where figures go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from rlhf.protocols.engines import TrainEngine
from rlhf.types import (
    LabelledBatch,
    Metrics,
    PolicyOutput,
    PreferenceBatch,
    Prompt,
    RewardOutput,
    Rollout,
    ScoredBatch,
    StepBatch,
    TokenBatch,
    ValueOutput,
    Vocabulary,
)


class Tracker(Protocol):
    """A sink for metrics. It never stops a run: one that fails or hangs is said once and dropped.

    Its methods are called in order, in a thread of its own, which is not the one it was made in.
    """

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
