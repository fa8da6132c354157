"""The rows of a run: streams of batches for training, and the held-out rows as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlhf.data.encode import Encoder
from rlhf.data.rows import RankedRows, StepRow
from rlhf.protocols import Algorithm, Dataset
from rlhf.runtime.heads import head_of
from rlhf.runtime.plan import StagePlan, derived_seed
from rlhf.runtime.rows import RowStream, first_rows
from rlhf.types import LabelledBatch, PreferenceBatch, Prompt, Ranking, StepBatch, SteppedCompletion, TokenBatch


class RunRows:
    """The part of `rlhf.protocols.Run` that reads data; the run itself says which steps there are."""

    plan: StagePlan
    algorithm: Algorithm
    dataset: Dataset
    encoder: Encoder
    _stream: RowStream[Any, Any] | None
    _start_position: Mapping[str, int] | None

    def _steps(self) -> Iterator[int]:
        raise NotImplementedError

    def _counted(self, batch: Any) -> Any:
        """The batch, its tokens added to those seen."""
        raise NotImplementedError

    # --- training ----------------------------------------------------------------------------------------------------

    def texts(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch of documents)."""
        stream = self._open("texts", self.encoder.encode_text, num_rows)
        return ((step, self._counted(self.encoder.token_batch(stream.take()))) for step in self._steps())

    def demonstrations(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch of demonstrations)."""
        stream = self._open("demonstrations", _listed(self.encoder.encode_demonstration), num_rows)
        return ((step, self._counted(self.encoder.token_batch(stream.take()))) for step in self._steps())

    def rankings(self, num_prompts: int) -> Iterator[tuple[int, PreferenceBatch]]:
        """(step, batch of rankings)."""
        stream = self._open("rankings", self._encode_ranking, num_prompts)
        return ((step, self._counted(self.encoder.preference_batch(stream.take()))) for step in self._steps())

    def labelled(self, num_rows: int) -> Iterator[tuple[int, LabelledBatch]]:
        """(step, batch of judged completions)."""
        stream = self._open("labelled", _listed(self.encoder.encode_labelled), num_rows)
        return ((step, self._counted(self.encoder.labelled_batch(stream.take()))) for step in self._steps())

    def stepwise(self, num_rows: int, separator: str) -> Iterator[tuple[int, StepBatch]]:
        """(step, batch of completions judged step by step)."""
        stream = self._open("stepwise", _listed(self._encode_stepwise(separator)), num_rows)
        return ((step, self._counted(self.encoder.step_batch(stream.take()))) for step in self._steps())

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        """(step, prompts); the run says how far ahead they are read."""
        raise NotImplementedError

    def _open_prompts(self, num_prompts: int) -> RowStream[Any, Any]:
        return self._open("prompts", _listed(self.encoder.encode_prompt), num_prompts)

    def _prompts_at(self, num_prompts: int, position: Mapping[str, int]) -> list[Prompt]:
        """What `take` gave at a position; the rows left out on the way have been counted."""
        encode, counted = _listed(self.encoder.encode_prompt), self._left_out()
        place = {"item": position["item"], "row": 0}
        prompts: list[Prompt] = self._row_stream("prompts", encode, num_prompts, place).take()
        self.encoder.dropped, self.encoder.cut = counted["dropped"], counted["cut"]
        return prompts

    def more_prompts(self, num_prompts: int) -> list[Prompt]:
        """The next prompts within the same step."""
        assert self._stream is not None
        return self._stream.take(num_prompts)

    def held_out_texts(self) -> TokenBatch | None:
        rows = self._held_out("texts", self.encoder.encode_text)
        return self.encoder.token_batch(rows) if rows else None

    def held_out_demonstrations(self) -> TokenBatch | None:
        rows = self._held_out("demonstrations", _listed(self.encoder.encode_demonstration))
        return self.encoder.token_batch(rows) if rows else None

    def held_out_rankings(self) -> PreferenceBatch | None:
        rows = self._held_out("rankings", self._encode_ranking)
        return self.encoder.preference_batch(rows) if rows else None

    def held_out_labelled(self) -> LabelledBatch | None:
        rows = self._held_out("labelled", _listed(self.encoder.encode_labelled))
        return self.encoder.labelled_batch(rows) if rows else None

    def held_out_stepwise(self, separator: str) -> StepBatch | None:
        rows = self._held_out("stepwise", _listed(self._encode_stepwise(separator)))
        return self.encoder.step_batch(rows) if rows else None

    def held_out_prompts(self) -> list[Prompt]:
        return self._held_out("prompts", _listed(self.encoder.encode_prompt))

    def _held_out(self, kind: str, encode: Callable[[Any], Sequence[Any]]) -> list[Any]:
        held_out = self.dataset.held_out() if self.plan.config.held_out_rows else None
        if held_out is None or not held_out.sizes.get(kind):
            return []
        count = min(self.plan.config.held_out_rows, held_out.sizes[kind])
        return first_rows(getattr(held_out, kind)(0), count, encode)[: self.plan.config.held_out_rows]

    def _open(self, kind: str, encode: Callable[[Any], Sequence[Any]], batch_size: int) -> RowStream[Any, Any]:
        self._stream = self._row_stream(kind, encode, batch_size, self._start_position)
        return self._stream

    def _row_stream(
        self,
        kind: str,
        encode: Callable[[Any], Sequence[Any]],
        batch_size: int,
        position: Mapping[str, int] | None,
    ) -> RowStream[Any, Any]:
        seed = derived_seed(self.plan.seed, "data")
        longest = self.encoder.max_prompt_length if kind == "prompts" else self.encoder.max_length
        return RowStream(
            lambda start: getattr(self.dataset, kind)(seed, start),
            encode,
            batch_size,
            self._left_out,
            position,
            per_epoch=self.dataset.sizes.get(kind, 0),
            limit=f"{longest} tokens",
        )

    def _encode_stepwise(self, separator: str) -> Callable[[SteppedCompletion], StepRow | None]:
        return lambda stepped: self.encoder.encode_stepwise(stepped, separator)

    def _encode_ranking(self, ranking: Ranking) -> list[RankedRows]:
        rows = self.encoder.encode_ranking(ranking)
        return [] if rows is None else [replace(rows, head=head_of(ranking, self.algorithm))]

    def _left_out(self) -> dict[str, int]:
        return {"dropped": self.encoder.dropped, "cut": self.encoder.cut}


def _listed(encode: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """An encoder of one row at most, as one of a list of rows."""

    def listed(item: Any) -> list[Any]:
        row = encode(item)
        return [] if row is None else [row]

    return listed
