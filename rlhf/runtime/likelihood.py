"""How probable a model finds given texts after others, and the evaluations that are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlhf.config import ModelConfig, RoleSpec
from rlhf.data.encode import Encoder
from rlhf.data.files import read_rows
from rlhf.data.rows import TokenRow
from rlhf.errors import DataError
from rlhf.evaluation.multiple_choice import MultipleChoiceResult, answer_questions, read_question
from rlhf.plugins import Plugins, load_plugins
from rlhf.protocols import TrainEngine
from rlhf.runtime.models import encoder_for, require_model
from rlhf.types import PolicyOutput

_ROWS_AT_ONCE = 512


def evaluate_multiple_choice(model: str, path: Path, plugins: Plugins | None = None) -> MultipleChoiceResult:
    """MC1 and MC2 of TruthfulQA's rows in `path`, by a causal language model, in this process.

    Raises `DataError` for a row that is none of TruthfulQA's, and `ConfigError` for a model that is not there.
    """
    plugins = plugins or load_plugins()
    questions = [read_question(row.values, row.where) for row in read_rows([str(path)])]
    config = ModelConfig(path=model, dtype="float32")
    require_model(config)
    encoder = encoder_for(config)
    engine: TrainEngine[PolicyOutput] = plugins.registry.build(
        "train_engine", "torch", {}, RoleSpec(role="reference", model=config)
    )
    return answer_questions(questions, lambda pairs: log_likelihoods(engine, encoder, pairs))


def log_likelihoods(
    engine: TrainEngine[PolicyOutput], encoder: Encoder, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    """Of each (context, continuation) the sum of the log-probabilities of the continuation's tokens, in nats.

    Its tokens are those of both as one text less as many as the context alone has, and spaces that end the context are
    of the continuation, as in lm-evaluation-harness. A context that is too long loses its start.
    """
    rows = [_row(encoder, *pair) for pair in pairs]
    # Rows of one context lie together: the engine computes a shared beginning once.
    sums: list[float] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        batch = encoder.token_batch(rows[start : start + _ROWS_AT_ONCE])
        logprobs = engine.forward(batch).logprobs.double()
        sums += logprobs.where(batch.response_mask, 0.0).sum(dim=1).tolist()
    return sums


def _row(encoder: Encoder, context: str, continuation: str) -> TokenRow:
    bare = context.rstrip()
    before = len(encoder.tokenizer(bare)["input_ids"])
    tokens = tuple(encoder.tokenizer(context + continuation)["input_ids"])
    count = len(tokens) - before
    if not 0 < count < encoder.max_length:
        raise DataError(
            f"an answer of {count} tokens cannot be judged by a model with a context of {encoder.max_length}: "
            f"{continuation.strip()!r:.80}"
        )
    tokens = tokens[-encoder.max_length :]
    return TokenRow(tokens=tokens, trained=(False,) * (len(tokens) - count) + (True,) * count)
