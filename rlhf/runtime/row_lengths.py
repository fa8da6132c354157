"""How long the rows of a stage are: some are encoded as training would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from rlhf.config import ModelConfig
from rlhf.data.encode import Encoder
from rlhf.data.rows import TokenRow
from rlhf.errors import UserError
from rlhf.planning.batches import Lengths
from rlhf.protocols import Algorithm, Dataset
from rlhf.runtime.models import encoder_for
from rlhf.runtime.plan import StagePlan

LOOKED_AT = 256
"""Rows; their longest is near that of all, and encoding them takes well under a second."""
_ASSUMED_ANSWER = 0.5


def row_lengths(
    plan: StagePlan, algorithm: Algorithm, dataset: Dataset, start: ModelConfig, limit: int | None
) -> tuple[Lengths, int]:
    """Lengths of the rows that are trained on, and how many rows of tokens one row of data has.

    `start` is the model whose tokenizer the stage has; a fresh one has none yet, and its whole context is assumed.
    """
    each = 2 if algorithm.consumes == "rankings" else 1
    if start.path is None:
        return _assumed(limit or 2048), each
    try:
        encoder = encoder_for(
            start.model_copy(update={"max_length": plan.config.model.max_length}),
            max_new_tokens=plan.config.rollout.max_tokens if plan.samples else 0,
            max_prompt_length=plan.config.rows.max_prompt_length,
            overlong=plan.config.rows.overlong,
        )
        rows = list(islice(_encoded(algorithm.consumes, dataset, encoder, plan.seed), LOOKED_AT))
    except (UserError, OSError):
        return _assumed(limit or 2048), each  # what is wrong with the data or the model is said by whoever uses them
    if not rows:
        return _assumed(limit or 2048), each
    each = max(len(members) for members in rows) if algorithm.consumes == "rankings" else 1
    added = plan.config.rollout.max_tokens if plan.samples else 0
    flat = [row for members in rows for row in members]
    sizes = [len(row) + added for row in flat]
    answers = sum(sum(row.trained) + added for row in flat)
    return Lengths(sum(sizes) / len(sizes), max(sizes), max(0.01, answers / sum(sizes)), len(flat), limit), each


def _assumed(limit: int) -> Lengths:
    return Lengths(mean=limit / 2, longest=limit, answer=_ASSUMED_ANSWER, looked_at=0, limit=limit)


def _encoded(kind: str, dataset: Dataset, encoder: Encoder, seed: int) -> Iterator[Sequence[TokenRow]]:
    """The rows of tokens of each row of data; at most as many as an epoch has."""
    count = min(LOOKED_AT, dataset.sizes.get(kind, 0))
    for item in islice(getattr(dataset, kind)(seed), count):
        rows = _rows_of(kind, item, encoder)
        if rows:
            yield rows


def _rows_of(kind: str, item: Any, encoder: Encoder) -> Sequence[TokenRow]:
    if kind == "texts":
        return encoder.encode_text(item)
    if kind == "prompts":
        prompt = encoder.encode_prompt(item)
        tokens = () if prompt is None else tuple(prompt.token_ids or ())
        return [TokenRow(tokens=tokens, trained=(False,) * len(tokens))] if tokens else []
    if kind == "rankings":
        ranked = encoder.encode_ranking(item)
        return [] if ranked is None else ranked.candidates
    if kind == "demonstrations":
        row = encoder.encode_demonstration(item)
        return [] if row is None else [row]
    judged: Any = encoder.encode_labelled(item) if kind == "labelled" else encoder.encode_stepwise(item, "\n")
    return [] if judged is None else [judged.row]
