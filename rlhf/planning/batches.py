"""How a step of a run is cut up: rows, minibatches, micro-batches, passes over the data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Lengths:
    """Tokens of rows, as far as somebody looked."""

    mean: float
    longest: int
    answer: float
    """Share of a row's tokens that the loss speaks of."""
    looked_at: int
    """Rows; 0: nothing could be looked at, and the limit is assumed."""
    limit: int | None
    """Of the context; longer rows are cut or left out."""


@dataclass(frozen=True)
class Batches:
    """The arithmetic of one stage."""

    unit: str
    """What a batch counts: rows, rankings, samples."""
    rows_each: int
    """Rows of tokens in one of them."""
    per_step: int
    """Units in a step."""
    prompts: int | None
    """Prompts in a step, where completions are sampled."""
    per_update: int
    """Units in an optimizer step."""
    updates_per_step: int
    steps: int
    data_rows: int
    """Of the data, in one pass."""
    ranks: int
    lengths: Lengths
    micro_batch_tokens: int

    @property
    def updates(self) -> int:
        return self.steps * self.updates_per_step

    @property
    def rows_per_rank(self) -> int:
        """Rows of one process in one optimizer step."""
        return math.ceil(self.per_update / self.ranks) * self.rows_each

    @property
    def rows_at_once(self) -> int:
        """Rows of the fullest micro-batch, if all were of the longest."""
        fitting = max(1, self.micro_batch_tokens // (self.lengths.longest * self.rows_each)) * self.rows_each
        return min(fitting, self.rows_per_rank)

    @property
    def micro_batches(self) -> int:
        """Of one process in one optimizer step, rows being of the mean length."""
        tokens = self.rows_per_rank * self.lengths.mean
        fewest = self.rows_per_rank / max(1.0, self.micro_batch_tokens // max(1.0, self.lengths.mean))
        return max(1, math.ceil(tokens / self.micro_batch_tokens), math.ceil(fewest))

    @property
    def tokens_per_step(self) -> float:
        """Of all processes, each row counted once."""
        return self.per_step * self.rows_each * self.lengths.mean

    @property
    def passes(self) -> float:
        """Over the data, in the whole run."""
        taken = self.prompts if self.prompts is not None else self.per_step
        return self.steps * taken / self.data_rows if self.data_rows else 0.0

    def words(self) -> list[str]:
        """Sentences for people."""
        n = self.per_step
        if self.prompts is not None:
            each = n // self.prompts
            step = f"A step: {_count(self.prompts, 'prompt')} x {_count(each, 'sample')} = {_count(n, 'sample')}"
        else:
            rows = f" ({n * self.rows_each:,} rows of tokens)" if self.rows_each > 1 else ""
            step = f"A step: {_count(n, self.unit)}{rows}"
        update = (
            f"{_count(self.updates_per_step, 'optimizer step')} of {_count(self.per_update, self.unit)}"
            if self.updates_per_step > 1
            else "one optimizer step"
        )
        spread = f" on each of {self.ranks} processes" if self.ranks > 1 else ""
        length = (
            f"rows of {self.lengths.mean:,.0f} tokens on average, {self.lengths.longest:,} at most "
            f"({self.lengths.looked_at:,} looked at)"
            if self.lengths.looked_at
            else f"rows of up to {self.lengths.longest:,} tokens (assumed: none could be looked at)"
        )
        cut = (
            f"An optimizer step: about {_count(self.micro_batches, 'micro-batch', 'es')}{spread} of up to "
            f"{self.micro_batch_tokens:,} tokens; {length}."
        )
        whole = (
            f"The stage: {_count(self.steps, 'step')}, {_count(self.updates, 'optimizer step')}, "
            f"{self.steps * self.tokens_per_step:,.0f} tokens, {self.passes:,.2f} passes over "
            f"{self.data_rows:,} rows of data."
        )
        return [f"{step}, {update}.", cut, whole]


def _count(number: int, what: str, plural: str = "s") -> str:
    what = what.removesuffix("s") if number == 1 else what
    return f"{number:,} {what}" if number == 1 or what.endswith("s") else f"{number:,} {what}{plural}"
