"""Token rows of one sequence each, and the right-padded batches made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlhf.types import LabelledBatch, PreferenceBatch, Rollout, StepBatch, TokenBatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One sequence: its tokens, which of them are trained, and with what weights (None: all one)."""

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    weights: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, start: int, end: int) -> TokenRow:
        """The row of these positions."""
        weights = self.weights[start:end] if self.weights else None
        return TokenRow(tokens=self.tokens[start:end], trained=self.trained[start:end], weights=weights)

    def __add__(self, other: TokenRow) -> TokenRow:
        weights = None
        if self.weights is not None or other.weights is not None:
            weights = (self.weights or (1.0,) * len(self)) + (other.weights or (1.0,) * len(other))
        return TokenRow(tokens=self.tokens + other.tokens, trained=self.trained + other.trained, weights=weights)


@dataclass(frozen=True, kw_only=True)
class RankedRows:
    """The candidates of one prompt, best first."""

    candidates: tuple[TokenRow, ...]
    margin: float = 0.0
    head: int | None = None
    """The head it trains, of a reward model with several."""


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """A judged completion after its prompt."""

    row: TokenRow
    label: bool


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A completion judged step by step: `row.trained` marks the last token of each, `labels` are in their order."""

    row: TokenRow
    labels: tuple[bool, ...]


def token_batch(rows: Sequence[TokenRow], pad_id: int) -> TokenBatch:
    """Rows as one batch `[B, T]`, T the longest row. Masks come from lengths: `pad_id` may be any token's id."""
    import torch

    width = max((len(row) for row in rows), default=0)
    lengths_B = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    weighted = any(row.weights is not None for row in rows)
    weights = [row.weights or (1.0,) * len(row) for row in rows]
    return TokenBatch(
        tokens=_padded([row.tokens for row in rows], width, pad_id, torch.int64),
        attention_mask=torch.arange(width)[None, :] < lengths_B[:, None],
        response_mask=_padded([row.trained for row in rows], width, False, torch.bool),
        loss_weights=_padded(weights, width, 0.0, torch.float32) if weighted else None,
    )


def preference_batch(rankings: Sequence[RankedRows], pad_id: int) -> PreferenceBatch:
    """Rankings as one batch: K rows a prompt, K the most candidates of any, blank where a prompt has fewer.

    A blank row is all padding: nothing in it is attended to, and `present_BK` is False.
    """
    import torch

    most = max((len(ranking.candidates) for ranking in rankings), default=0)
    blank = TokenRow(tokens=(), trained=())
    rows = [row for r in rankings for row in (*r.candidates, *[blank] * (most - len(r.candidates)))]
    counts_B = torch.tensor([len(ranking.candidates) for ranking in rankings], dtype=torch.int64)
    heads = [ranking.head for ranking in rankings]
    return PreferenceBatch(
        candidates=token_batch(rows, pad_id),
        present_BK=torch.arange(most)[None, :] < counts_B[:, None],
        margin_B=torch.tensor([ranking.margin for ranking in rankings], dtype=torch.float32),
        head_B=None if None in heads else torch.tensor(heads, dtype=torch.int64),
    )


def labelled_batch(rows: Sequence[LabelledRow], pad_id: int) -> LabelledBatch:
    """Judged completions as one batch."""
    import torch

    batch = token_batch([labelled.row for labelled in rows], pad_id)
    labels_B = torch.tensor([labelled.label for labelled in rows], dtype=torch.bool)
    return LabelledBatch(**dict(batch.tensors()), label_B=labels_B)


def step_batch(rows: Sequence[StepRow], pad_id: int) -> StepBatch:
    """Completions judged step by step as one batch."""
    import torch

    batch = token_batch([judged.row for judged in rows], pad_id)
    labels = torch.tensor([label for judged in rows for label in judged.labels], dtype=torch.bool)
    placed = torch.zeros_like(batch.response_mask).masked_scatter(batch.response_mask, labels)
    return StepBatch(**dict(batch.tensors()), labels=placed)


def rollout_batch(rollouts: Sequence[Rollout], pad_id: int) -> TokenBatch:
    """Prompt and completion tokens, exactly as they were sampled; the response mask covers the completions."""
    return token_batch([rollout_row(rollout) for rollout in rollouts], pad_id)


def rollout_row(rollout: Rollout) -> TokenRow:
    """A prompt and what was sampled after it."""
    prompt, said = rollout.prompt.token_ids, rollout.completion.token_ids
    return TokenRow(tokens=prompt + said, trained=(False,) * len(prompt) + (True,) * len(said))


def weighted(row: TokenRow, weights: Sequence[float]) -> TokenRow:
    """The row with these weights, or without any where all that count are one."""
    plain = all(weight == 1.0 for weight, trained in zip(weights, row.trained, strict=True) if trained)
    return row if plain else replace(row, weights=tuple(weights))


def _padded(rows: Sequence[Sequence[float]], width: int, fill: float, dtype: torch.dtype) -> Tensor:
    import torch

    out = torch.full((len(rows), width), fill, dtype=dtype)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.tensor(row, dtype=dtype)
    return out
