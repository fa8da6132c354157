"""Tensors: what train engines take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Right-padded token rows.

    Example (one row, prompt `P0 P1`, response `A0 A1`, one pad):
        tokens          P0 P1 A0 A1 pad
        attention_mask   1  1  1  1  0
        response_mask    0  0  1  1  0
    """

    tokens: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] bool, True on real tokens (prefix of each row)
    response_mask: Tensor  # [B, T] bool, True on tokens the loss speaks of
    loss_weights: Tensor | None = None  # [B, T] float32, per-token weights of supervised losses; None: all one

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The batch of these rows, in this order."""
        taken = {name: value[rows] for name, value in self.tensors()}
        return replace(self, **taken)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                yield f.name, value

    def split(self, size: int) -> list[Self]:
        """Consecutive pieces of at most `size` rows."""
        return [self[slice(start, start + size)] for start in range(0, len(self), size)]

    def trim(self) -> Self:
        """Without the columns in which every row is padding."""
        width = max(1, int(self.attention_mask.sum(dim=1).max()))
        if width == self.tokens.shape[1]:
            return self
        return replace(self, **{n: v[:, :width] for n, v in self.tensors() if v.dim() > 1})

    def row_keys(self) -> list[bytes]:
        """Of each row, a digest of what decides a model's answer: its tokens, and which are the response's."""
        return [self._row_key(row) for row in range(len(self))]

    def _row_key(self, row: int) -> bytes:
        real = self.attention_mask[row]
        parts = (self.tokens[row][real], self.response_mask[row][real])
        return hashlib.sha256(b"|".join(part.cpu().numpy().tobytes() for part in parts)).digest()

    @property
    def inputs(self) -> TokenBatch:
        """The token rows a model runs over."""
        return self

    @property
    def lengths_B(self) -> Tensor:
        """Length of each row in tokens, `[B]`; what micro-batches are balanced by."""
        return self.attention_mask.sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class ScoredBatch(TokenBatch):
    """Collated rollouts, with what the engine and the rewards said of each."""

    sampled_logprobs: Tensor  # [B, T] float32, of the response tokens as the rollout engine reported them
    scores_B: Tensor  # float32
    truncated_B: Tensor  # bool, cut at max_tokens
    group_B: Tensor  # int64, index of the prompt; samples of one prompt share it
    costs_B: Tensor | None = None  # float32, where the stage has a cost
    staleness_B: Tensor | None = None  # int64, updates of the policy since the sample was begun; None: 0 by design

    @property
    def is_stale(self) -> bool:
        """Some of it was written by an older policy than the one that is to learn from it."""
        return self.staleness_B is not None and bool((self.staleness_B > 0).any())


@dataclass(frozen=True, kw_only=True)
class Experience(TokenBatch):
    """Rollouts with everything a policy-gradient step needs. All `[B, T]` float32, zero outside `response_mask`."""

    old_logprobs: Tensor | None  # log pi_old(a|s), by the train engine; None: as the update itself finds them
    advantages: Tensor
    ref_logprobs: Tensor | None = None  # log pi_ref(a|s), where the loss has a KL term
    correction: Tensor | None = None  # importance weight pi_old / pi_sampled, where the rollout engine's differs
    sampled_logprobs: Tensor | None = None  # by the rollout engine, where the update is to tell how far it is from it


@dataclass(frozen=True, kw_only=True)
class ValuedExperience(Experience):
    """Experience with what a value model learns from. All `[B, T]` float32, zero outside `response_mask`."""

    old_values: Tensor  # V_old(s)
    returns: Tensor


@dataclass(frozen=True, kw_only=True)
class ConstrainedExperience(ValuedExperience):
    """Experience with what a value model of costs learns from. All `[B, T]` float32, zero outside `response_mask`."""

    cost_values: Tensor
    cost_returns: Tensor


@dataclass(frozen=True, kw_only=True)
class LabelledBatch(TokenBatch):
    """Unpaired completions, each judged good or bad."""

    label_B: Tensor  # bool
    ref_logprobs_B: Tensor | None = None  # float32, summed over the completion
    kl_B: Tensor | None = None  # float32, KTO's reference point: one number, repeated in every row


@dataclass(frozen=True, kw_only=True)
class MaskedBatch(TokenBatch):
    """Texts with tokens masked or replaced; `response_mask` is True where the token that stood there is asked for."""

    targets: Tensor  # [B, T] int64, the texts as they were


@dataclass(frozen=True, kw_only=True)
class SpanBatch(TokenBatch):
    """What was taken out of texts (`tokens`, which a decoder writes), and what was left of them (`source`, read)."""

    source: Tensor  # [B, S] int64
    source_mask: Tensor  # [B, S] bool, True on real tokens

    def trim(self) -> Self:
        """Both sides without the columns in which every row is padding."""
        width = max(1, int(self.source_mask.sum(dim=1).max()))
        source, mask = self.source[:, :width], self.source_mask[:, :width]
        target = TokenBatch(tokens=self.tokens, attention_mask=self.attention_mask, response_mask=self.response_mask)
        return replace(self, source=source, source_mask=mask, **dict(target.trim().tensors()))


@dataclass(frozen=True, kw_only=True)
class StepBatch(TokenBatch):
    """Completions judged step by step: `response_mask` is True on the last token of each step, and nowhere else."""

    labels: Tensor  # [B, T] bool, whether the step that ends here is right; False elsewhere


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch:
    """K ranked completions for each of B prompts, best first: K = 2 is chosen, rejected.

    `candidates` has B*K rows, row `b*K + k` holding the k-th best of prompt b. Where a prompt has fewer than K, its
    last rows are blank and `present_BK` is False there.
    """

    candidates: TokenBatch
    present_BK: Tensor  # [B, K] bool
    margin_B: Tensor  # [B] float32
    head_B: Tensor | None = None  # [B] int64, the head this ranking trains, of a reward model with several
    ref_logprobs_BK: Tensor | None = None  # [B, K] float32, log pi_ref(completion), summed over its tokens

    def __len__(self) -> int:
        return len(self.present_BK)

    def __getitem__(self, rows: Tensor | slice) -> PreferenceBatch:
        import torch

        num_candidates = self.present_BK.shape[1]
        prompts = torch.arange(len(self))[rows]
        flat = (prompts[:, None] * num_candidates + torch.arange(num_candidates)).flatten()
        return self.with_tensors(self.candidates[flat], lambda value: value[prompts])

    def with_tensors(self, candidates: TokenBatch, change: Callable[[Tensor], Tensor]) -> PreferenceBatch:
        """These candidates, and every tensor of the prompts' own (`[B, ...]`) changed."""
        changed = {name: change(value) for name, value in self.own_tensors().items()}
        return replace(self, candidates=candidates, **changed)

    def own_tensors(self) -> dict[str, Tensor]:
        """The tensors that are the prompts' own, `[B, ...]`, by name."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "candidates"}
        return {name: value for name, value in own.items() if value is not None}

    def split(self, size: int) -> list[PreferenceBatch]:
        return [self[slice(start, start + size)] for start in range(0, len(self), size)]

    def trim(self) -> PreferenceBatch:
        return replace(self, candidates=self.candidates.trim())

    @property
    def inputs(self) -> TokenBatch:
        return self.candidates

    @property
    def lengths_B(self) -> Tensor:
        return self.candidates.lengths_B.view(self.present_BK.shape).sum(dim=1)

    @property
    def chosen(self) -> TokenBatch:
        return self.candidates[slice(0, None, self.present_BK.shape[1])]

    @property
    def rejected(self) -> TokenBatch:
        return self.candidates[slice(1, None, self.present_BK.shape[1])]


Batch = TokenBatch | PreferenceBatch
