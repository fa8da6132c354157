"""Text: what data sets yield, what a rollout engine returns, what judges say. Works where torch is not loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict


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


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer's tokens, as far as a method needs to know them."""

    size: int
    special_ids: frozenset[int]
    """Control tokens: ends, roles, masks, sentinels."""
    pad_id: int
    eos_id: int
    mask_id: int | None = None
    """Stands for a token an encoder is to guess."""
    sentinel_ids: tuple[int, ...] = ()
    """Stand for spans of tokens an encoder-decoder is to write, in order."""

    @property
    def ordinary_ids(self) -> tuple[int, ...]:
        return tuple(token for token in range(self.size) if token not in self.special_ids)


@dataclass(frozen=True, kw_only=True)
class SteppedCompletion:
    """A completion in `steps`, each judged right or not: `labels[k]` speaks of step k, given those before it."""

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[bool, ...]


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
    min_p: float = 0.0
    """Leaves out tokens less likely than this share of the likeliest one."""
    num_samples: int = 1
    stop_token_ids: tuple[int, ...] = ()
    """Ends of a turn, besides those the model itself names."""
    stop: tuple[str, ...] = ()
    """Texts that end a sample. Its tokens go up to the one that completes such a text; its own text ends before it."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of tokens, by id, before the temperature; log-probs are told without it."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the policy said: `token_ids` include what ended it when `finish_reason` is "stop": the end-of-turn token,
    or the tokens of a stop string, which `text` leaves out.

    `logprobs` are those of the sampled tokens: float32, at the sampling temperature (at 1 where that is 0), of the
    policy's whole distribution: before logit bias, top-k, top-p and min-p, which is what the train engine computes.
    `policy_version` is the number of weight hand-overs the engine had seen.
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
    cost: float | None = None
    """What a constraint bounds, where the stage has a `cost`; parts as of the reward."""
    cost_parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a reward may answer for one rollout in place of a number: its parts, or why it could not be judged.

    `value` is None where the reward does not apply to the rollout, and where `error` says what prevented it. `parts`
    are logged beside the value and decide nothing.
    """

    value: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    details: str = ""
    """Beside an error, what helps to mend it, such as a traceback; kept of the first failure."""


Axis = Literal["helpful", "honest", "harmless"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """A grader's verdict on one rollout: a `score` in 0..1; None where it does not apply, or could not (`error`)."""

    axis: Axis
    score: float | None
    rationale: str = ""
    error: str | None = None
