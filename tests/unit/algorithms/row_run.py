"""A run that hands out rows: what a method asks for, trains on, asks its models and finishes a step with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf.types import Metrics, PreferenceBatch, TokenBatch, Vocabulary

Rows = TokenBatch | PreferenceBatch


@dataclass
class Trainee:
    """Says what `answer` makes of the rows it is asked about, and remembers what it was trained on."""

    answer: Callable[[Any], Any] = lambda rows: None
    trained: list[tuple[Any, Any]] = field(default_factory=list)

    def forward(self, rows: Any) -> Any:
        return self.answer(rows)

    def train_step(self, rows: Any, loss_fn: Any) -> Metrics:
        self.trained.append((rows, loss_fn))
        return {"policy/loss": float(len(self.trained))}


@dataclass
class RowRun:
    """`batches` are the rows of its steps, whatever their kind; `held_out` the rows that are kept from training."""

    batches: Sequence[Any] = ()
    held_out: Any = None
    policy: Trainee = field(default_factory=Trainee)
    reference: Trainee = field(default_factory=Trainee)
    reward: Trainee = field(default_factory=Trainee)
    vocabulary: Vocabulary = field(
        default_factory=lambda: Vocabulary(
            size=60, special_ids=frozenset(range(10)), pad_id=0, eos_id=1, mask_id=2, sentinel_ids=(3, 4, 5, 6)
        )
    )
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    finished: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def texts(self, num_rows: int) -> Iterator[tuple[int, Any]]:
        return self._steps("texts", num_rows)

    def demonstrations(self, num_rows: int) -> Iterator[tuple[int, Any]]:
        return self._steps("demonstrations", num_rows)

    def rankings(self, num_prompts: int) -> Iterator[tuple[int, Any]]:
        return self._steps("rankings", num_prompts)

    def labelled(self, num_rows: int) -> Iterator[tuple[int, Any]]:
        return self._steps("labelled", num_rows)

    def stepwise(self, num_rows: int, separator: str) -> Iterator[tuple[int, Any]]:
        return self._steps("stepwise", num_rows, separator)

    def _steps(self, *asked: Any) -> Iterator[tuple[int, Any]]:
        self.asked.append(asked)
        return enumerate(self.batches, start=1)

    def held_out_texts(self) -> Any:
        return self._held_out("texts")

    def held_out_demonstrations(self) -> Any:
        return self._held_out("demonstrations")

    def held_out_rankings(self) -> Any:
        return self._held_out("rankings")

    def held_out_labelled(self) -> Any:
        return self._held_out("labelled")

    def held_out_stepwise(self, separator: str) -> Any:
        return self._held_out("stepwise", separator)

    def _held_out(self, *asked: Any) -> Any:
        self.asked.append(("held out", *asked))
        return self.held_out

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Any] = ()) -> None:
        assert not rollouts
        self.finished.append((step, metrics))
