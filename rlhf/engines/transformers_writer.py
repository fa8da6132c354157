"""Requests that come and go, written in plain transformers: those that wait join as a batch, batches take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.engines.decoding import Decoder
from rlhf.engines.sampling import choose, uniforms
from rlhf.protocols import Piece
from rlhf.types import FinishReason, Prompt, Sampling

MAX_BATCHES = 4
"""Batches that take turns. Samples of a batch begin together, so whoever comes later waits for a place for a new one;
more batches wait less, and each token is then written for fewer rows at once.
"""


@dataclass
class _Row:
    """One request being written."""

    request: str
    prompt: Prompt
    sampling: Sampling
    stops: frozenset[int]
    written: int = 0
    wanted: bool = True

    def end(self, token: int) -> FinishReason | None:
        """Why it ends with this token, if it does."""
        if token in self.stops:
            return "stop"
        return "length" if self.written == self.sampling.max_tokens else None


class TransformersWriter:
    """Satisfies `rlhf.protocols.Writer`."""

    def __init__(self, network: PreTrainedModel, decoder: type[Decoder], stops: frozenset[int], max_rows: int) -> None:
        self._network, self._decoder, self._stops, self._max_rows = network, decoder, stops, max_rows
        self._waiting: list[_Row] = []
        self._batches: list[_Batch] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._batches)

    def add(self, request: str, prompt: Prompt, sampling: Sampling) -> None:
        self._waiting.append(_Row(request, prompt, sampling, self._stops | set(sampling.stop_token_ids)))

    def drop(self, request: str) -> None:
        self._waiting = [row for row in self._waiting if row.request != request]
        for row in (row for batch in self._batches for row in batch.rows):
            row.wanted = row.wanted and row.request != request

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        room = self._max_rows - sum(len(batch.rows) for batch in self._batches)
        if self._waiting and room > 0 and len(self._batches) < MAX_BATCHES:
            rows, self._waiting = self._waiting[:room], self._waiting[room:]
            self._batches.append(_Batch(self._decoder(self._network), rows, self._network.device))  # type: ignore[call-arg]
        pieces = [piece for batch in self._batches for piece in batch.step()]
        self._batches = [batch for batch in self._batches if batch.rows]
        return pieces


class _Batch:
    """Rows that began together."""

    def __init__(self, decoder: Decoder, rows: Sequence[_Row], device: torch.device) -> None:
        self.rows = list(rows)
        self._device = device
        self._decoder = decoder
        self._draws = [uniforms(r.sampling.seed, r.prompt.id, 0, r.sampling.max_tokens).to(device) for r in rows]
        self._logits = decoder.start([row.prompt.token_ids for row in rows], [1] * len(rows))

    def step(self) -> list[Piece]:
        """One token for each row that is still wanted; rows that end leave."""
        tokens = self._chosen()
        pieces, left = [], []
        for place, (row, token) in enumerate(zip(self.rows, tokens.tolist(), strict=True)):
            if not row.wanted:
                continue
            row.written += 1
            reason = row.end(token)
            pieces.append(Piece(row.request, (token,), reason))
            if reason is None:
                left.append(place)
        self._go_on(left, tokens)
        return pieces

    def _go_on(self, left: list[int], tokens: Tensor) -> None:
        if not left:
            self._decoder.end()
        elif len(left) < len(self.rows):
            kept = torch.tensor(left, device=self._device)
            self._decoder.keep(kept)
            tokens = tokens[kept]
        self.rows, self._draws = [self.rows[place] for place in left], [self._draws[place] for place in left]
        if left:
            self._logits = self._decoder.step(tokens)

    def _chosen(self) -> Tensor:
        """The next token of each row, by its own sampling; rows of one kind of sampling are drawn together."""
        kinds: dict[object, list[int]] = {}
        for place, row in enumerate(self.rows):
            kinds.setdefault(_kind(row.sampling), []).append(place)
        tokens = torch.empty(len(self.rows), dtype=torch.long, device=self._device)
        for places in kinds.values():
            draws = torch.stack([self._draws[place][self.rows[place].written] for place in places])
            index = torch.tensor(places, device=self._device)
            tokens[index] = choose(self._logits[index], draws, self.rows[places[0]].sampling)[0]
        return tokens


def _kind(sampling: Sampling) -> object:
    """What decides how a token is drawn."""
    bias = tuple(sorted(sampling.logit_bias.items()))
    return sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, bias
