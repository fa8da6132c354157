"""Rows a quantisation measures activations on, tokenised as a run would train on them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rlhf.config import ModelConfig
from rlhf.data.dataset import FilesConfig, FilesDataset
from rlhf.data.encode import Encoder
from rlhf.errors import DataError
from rlhf.protocols import Dataset
from rlhf.runtime.models import encoder_for
from rlhf.validation import validated

NUM_ROWS = 512
MAX_LENGTH = 2048
"""What GPTQ and AWQ are usually given; more changes little."""
_SEED = 0


def calibration_rows(file: Path, model: Path, row_format: str | None, columns: dict[str, str]) -> list[list[int]]:
    """At most `NUM_ROWS` rows of the file as token ids, in an order that is always the same; long ones are cut.

    Raises `DataError` where the file has no rows with an answer or a text.
    """
    options = {"path": str(file), "format": row_format, "columns": columns}
    dataset = FilesDataset(validated(FilesConfig, options, "--data"))
    encoder = encoder_for(ModelConfig(path=str(model)), overlong="cut")
    limit = min(MAX_LENGTH, encoder.max_length)
    rows = [list(ids[:limit]) for ids in islice(_encoded(dataset, encoder), NUM_ROWS)]
    if not rows:
        raise DataError(f"--data {file}: no row fits the model's context of {encoder.max_length} tokens")
    return rows


def _encoded(dataset: Dataset, encoder: Encoder) -> Iterator[tuple[int, ...]]:
    """Each row once: demonstrations, the best of rankings, texts, or prompts, whichever the file has first."""
    sizes = dataset.sizes
    if size := sizes.get("demonstrations"):
        for shown in islice(dataset.demonstrations(_SEED), size):
            if (row := encoder.encode_demonstration(shown)) is not None:
                yield row.tokens
    elif size := sizes.get("rankings"):
        for ranking in islice(dataset.rankings(_SEED), size):
            if (ranked := encoder.encode_ranking(ranking)) is not None:
                yield ranked.candidates[0].tokens
    elif size := sizes.get("texts"):
        for text in islice(dataset.texts(_SEED), size):
            yield from (piece.tokens for piece in encoder.encode_text(text))
    else:
        for prompt in islice(dataset.prompts(_SEED), sizes.get("prompts", 0)):
            if (asked := encoder.encode_prompt(prompt)) is not None:
                yield asked.token_ids
