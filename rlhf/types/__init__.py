"""The nouns of the pipeline: one frozen type per stage, no dict bus.

Shapes: tensors are `[B, T]` (batch, time) unless the name says otherwise: `scores_B` is `[B]`, `logits_BTV` is
`[B, T, V]`. Every `[B, T]` tensor is aligned to `tokens`: entry `t` speaks of token `t`, given the tokens before it.
So `logprobs[:, t] = log p(tokens[:, t] | tokens[:, :t])`, `values[:, t]` is the value of the state in which token `t`
is chosen, and column 0, which nothing predicts, is zero.

This module does not import torch: text types work where torch is not loaded.
"""

from __future__ import annotations

from rlhf.types.batches import (
    Batch,
    ConstrainedExperience,
    Experience,
    LabelledBatch,
    MaskedBatch,
    PreferenceBatch,
    ScoredBatch,
    SpanBatch,
    StepBatch,
    TokenBatch,
    ValuedExperience,
)
from rlhf.types.outputs import (
    DistilledOutput,
    HeadedRewardOutput,
    LossSum,
    Metrics,
    PolicyOutput,
    RewardOutput,
    StepOutput,
    ValueOutput,
)
from rlhf.types.text import (
    Axis,
    Completion,
    Demonstration,
    FinishReason,
    Grade,
    LabelledCompletion,
    Message,
    Prompt,
    Ranking,
    Rollout,
    Sampling,
    Score,
    SteppedCompletion,
    Vocabulary,
)
from rlhf.types.weights import Fingerprint

__all__ = [
    "Axis",
    "Batch",
    "Completion",
    "ConstrainedExperience",
    "Demonstration",
    "DistilledOutput",
    "Experience",
    "Fingerprint",
    "FinishReason",
    "Grade",
    "HeadedRewardOutput",
    "LabelledBatch",
    "LabelledCompletion",
    "LossSum",
    "MaskedBatch",
    "Message",
    "Metrics",
    "PolicyOutput",
    "PreferenceBatch",
    "Prompt",
    "Ranking",
    "RewardOutput",
    "Rollout",
    "Sampling",
    "Score",
    "ScoredBatch",
    "SpanBatch",
    "StepBatch",
    "StepOutput",
    "SteppedCompletion",
    "TokenBatch",
    "ValueOutput",
    "ValuedExperience",
    "Vocabulary",
]
