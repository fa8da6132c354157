"""The nouns of the pipeline: one frozen type per stage, no dict bus.

Shapes: tensors are `[B, T]` (batch, time) unless the name says otherwise: `scores_B` is `[B]`, `logits_BTV` is
`[B, T, V]`. Every `[B, T]` tensor is aligned to `tokens`: entry `t` speaks of token `t`, given the tokens before it.
So `logprobs[:, t] = log p(tokens[:, t] | tokens[:, :t])`, `values[:, t]` is the value of the state in which token `t`
is chosen, and column 0, which nothing predicts, is zero.

This module does not import torch: text types work where torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

Metrics = dict[str, float]
"""Figures of one step under `area/name` (`reward/mean`, `policy/approx_kl`); docs/metrics.md explains each."""


class Message(TypedDict, total=False):
    """One turn of a conversation, as chat templates take it."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    weight: float
    """Loss weight of an assistant turn; 1 where absent, 0 to leave the turn untrained."""


# --- text: what data sets yield ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a policy is asked: a conversation (`messages`) or plain `text`, exactly one of the two.

    `token_ids` is filled by the run before sampling. `reference` is a known answer where the data has one; every
    other column of the row travels in `metadata` and reaches reward functions by its name.
    """

    id: str
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    token_ids: tuple[int, ...] = ()
    reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last_user_text(self) -> str:
        """The question itself: the last user turn, or the whole text of a plain prompt."""
        if self.messages is None:
            return self.text or ""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A row to imitate: `messages` (assistant turns are trained), `prompt` + `completion`, or plain `text` (all of it).

    Example:
        `Demonstration(id="0", prompt="2 + 2 =", completion=" 4")` trains on " 4" and the end of sequence.
    """

    id: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Completions of one prompt from best to worst; two of them are the usual chosen / rejected pair.

    `margin` says by how much each is better than the next, where the labels know it. A completion is the text of one
    assistant turn.
    """

    prompt: Prompt
    completions: tuple[str, ...]
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LabelledCompletion:
    """An unpaired judgement: this completion of this prompt is good (`label=True`) or not."""

    prompt: Prompt
    completion: str
    label: bool


# --- text: what a rollout engine and the judges return ---------------------------------------------------------------

FinishReason = Literal["stop", "length"]
"""`stop`: the policy ended its turn. `length`: it was cut at `max_tokens`, which is not an end (numerics.md, 2)."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample. Seeds make a sample a function of (seed, prompt id, sample index), not of its batch."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    num_samples: int = 1
    stop_token_ids: tuple[int, ...] = ()
    """Ends of a turn, besides those the model itself names."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the policy said: `token_ids` include the end-of-turn token when `finish_reason` is "stop".

    `logprobs` are those of the sampled tokens: float32, at the sampling temperature (at 1 where that is 0), before
    top-k and top-p, which is what the train engine computes. `policy_version` is the number of weight hand-overs the
    engine had seen.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    policy_version: int = 0


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A prompt, one completion of it, and what the rewards made of it.

    `error` is set where a reward failed: such a rollout is dropped from the batch and counted, never a zero.
    `reward_parts` holds each part before weighting, by name.
    """

    prompt: Prompt
    completion: Completion
    reward: float | None = None
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


Axis = Literal["helpful", "honest", "harmless"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """A grader's verdict on one rollout: `score` in 0..1, or `None` with the `error` that prevented it."""

    axis: Axis
    score: float | None
    rationale: str = ""
    error: str | None = None


# --- tensors: what train engines take --------------------------------------------------------------------------------


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


@dataclass(frozen=True, kw_only=True)
class Experience(TokenBatch):
    """Rollouts with everything a policy-gradient step needs. All `[B, T]`, zero outside `response_mask`."""

    old_logprobs: Tensor  # log pi_old(a|s), float32
    ref_logprobs: Tensor  # log pi_ref(a|s), float32
    advantages: Tensor
    old_values: Tensor  # V_old(s)
    returns: Tensor


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch:
    """K ranked completions for each of B prompts, best first: K = 2 is chosen, rejected.

    `candidates` has B*K rows, row `b*K + k` holding the k-th best of prompt b. Where a prompt has fewer than K, its
    last rows are blank and `present_BK` is False there.
    """

    candidates: TokenBatch
    present_BK: Tensor  # [B, K] bool
    margin_B: Tensor  # [B] float32

    def __len__(self) -> int:
        return len(self.present_BK)

    def __getitem__(self, rows: Tensor | slice) -> PreferenceBatch:
        import torch

        num_candidates = self.present_BK.shape[1]
        prompts = torch.arange(len(self))[rows]
        flat = (prompts[:, None] * num_candidates + torch.arange(num_candidates)).flatten()
        return PreferenceBatch(
            candidates=self.candidates[flat], present_BK=self.present_BK[prompts], margin_B=self.margin_B[prompts]
        )

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


@dataclass(frozen=True, kw_only=True)
class PolicyOutput:
    """`logprobs` of the tokens and `entropy` of their distributions: `[B, T]` float32, at the role's temperature."""

    logprobs: Tensor
    entropy: Tensor


@dataclass(frozen=True, kw_only=True)
class ValueOutput:
    """`values[:, t]` of the state in which token t is chosen; `final_values_B` of the state after the last token.

    The latter is what a truncated rollout is bootstrapped with.
    """

    values: Tensor
    final_values_B: Tensor


@dataclass(frozen=True, kw_only=True)
class RewardOutput:
    """One scalar score a row, read at its last real token, float32."""

    scores_B: Tensor


@dataclass(frozen=True, kw_only=True)
class LossSum:
    """What a loss returns: a *sum*, which the engine divides once by the global count.

    `sums` are diagnostics as (sum, count) pairs, added up over micro-batches and ranks before the division, so that
    a metric does not depend on how a batch was cut.
    """

    total: Tensor  # scalar, with gradient
    sums: Mapping[str, tuple[Tensor, Tensor]]


__all__: Sequence[str] = [
    "Axis",
    "Batch",
    "Completion",
    "Demonstration",
    "Experience",
    "FinishReason",
    "Grade",
    "LabelledCompletion",
    "LossSum",
    "Message",
    "Metrics",
    "PolicyOutput",
    "PreferenceBatch",
    "Prompt",
    "Ranking",
    "RewardOutput",
    "Rollout",
    "Sampling",
    "ScoredBatch",
    "TokenBatch",
    "ValueOutput",
]
