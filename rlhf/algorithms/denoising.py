"""Pre-training of encoders and encoder-decoders: put back what was taken out of a text.

Both minimise the cross entropy of what is missing and differ in how it was taken out: single tokens, read from both
sides (BERT, Devlin et al. 2018, arXiv:1810.04805), or spans behind sentinels, written out in order (T5, Raffel et al.
2020, arXiv:1910.10683). What is taken out of a text differs from step to step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from rlhf.algorithms.passes import PassesConfig
from rlhf.algorithms.supervised import NextTokenLoss
from rlhf.errors import DataError
from rlhf.functional.corruption import hide_spans, mask_tokens, noise_spans
from rlhf.protocols import Algorithm, Run
from rlhf.types import MaskedBatch, SpanBatch, TokenBatch, Vocabulary


class MaskedLMConfig(PassesConfig):
    """Options of `masked_lm`."""

    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a text's tokens that are predicted; of these 80 % are masked, 10 % replaced and 10 % left."""


class SpanCorruptionConfig(PassesConfig):
    """Options of `span_corruption`."""

    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a text's tokens that are taken out."""
    mean_span: float = Field(default=3.0, ge=1)
    """Tokens in a span, on average."""


Config = TypeVar("Config", bound=PassesConfig)


class _Denoising(Algorithm, Generic[Config]):
    """The loop both share; a subclass says what is taken out."""

    needs = frozenset({"policy"})
    consumes = "texts"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loss = NextTokenLoss()

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.num_steps(rows_per_epoch)

    def corrupted(self, batch: TokenBatch, vocabulary: Vocabulary, seed: int) -> TokenBatch:
        raise NotImplementedError

    def run(self, run: Run) -> None:
        for step, batch in run.texts(self.config.batch_size):
            run.finish_step(step, run.policy.train_step(self.corrupted(batch, run.vocabulary, step), self.loss))

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Mean negative log-likelihood of what is missing from each held-out text, the same before and after."""
        whole = run.held_out_texts()
        if whole is None:
            return {}
        batch = self.corrupted(whole, run.vocabulary, seed=0)
        mask = batch.response_mask
        logprobs = torch.where(mask, run.policy.forward(batch).logprobs, 0)
        return {"loss": (-logprobs.sum(1) / mask.sum(1).clamp(min=1))[mask.any(1)].tolist()}


class MaskedLM(_Denoising[MaskedLMConfig]):
    """Masked tokens, for encoders."""

    network = "encoder"

    def corrupted(self, batch: TokenBatch, vocabulary: Vocabulary, seed: int) -> MaskedBatch:
        """Tokens with some masked, and all of them as targets, of which the chosen ones count."""
        if vocabulary.mask_id is None:
            raise DataError(
                "masked_lm: the tokenizer has no mask token; use an encoder's, or model.new with kind: encoder"
            )
        generator = torch.Generator().manual_seed(seed)
        ordinary = torch.tensor(vocabulary.ordinary_ids)
        eligible = batch.attention_mask & torch.isin(batch.tokens, ordinary)
        rows = [
            mask_tokens(tokens, may, self.config.rate, vocabulary.mask_id, ordinary, generator)
            for tokens, may in zip(batch.tokens, eligible, strict=True)
        ]
        tokens, chosen = (torch.stack(column) for column in zip(*rows, strict=True))
        return MaskedBatch(
            tokens=tokens, attention_mask=batch.attention_mask, response_mask=chosen, targets=batch.tokens
        )


class SpanCorruption(_Denoising[SpanCorruptionConfig]):
    """Hidden spans, for encoder-decoders."""

    network = "encoder_decoder"

    def corrupted(self, batch: TokenBatch, vocabulary: Vocabulary, seed: int) -> SpanBatch:
        """Texts with sentinels for spans as sources, and what the sentinels stand for as targets."""
        generator = torch.Generator().manual_seed(seed)
        sentinels = torch.tensor(vocabulary.sentinel_ids, dtype=torch.long)
        pairs = []
        for tokens, length in zip(batch.tokens, batch.lengths_B.tolist(), strict=True):
            spans = noise_spans(length, self.config.rate, self.config.mean_span, generator)
            try:
                pairs.append(hide_spans(tokens[:length], spans, sentinels, vocabulary.eos_id))
            except ValueError as error:
                raise DataError(
                    f"span_corruption: {error} (<extra_id_0>, <extra_id_1>, ... in the tokenizer); shorten texts with "
                    "model.max_length, or take an encoder-decoder's tokenizer, or model.new with kind: encoder_decoder"
                ) from None
        (source, source_mask), (target, target_mask) = (
            _padded(rows, vocabulary.pad_id) for rows in zip(*pairs, strict=True)
        )
        return SpanBatch(
            tokens=target, attention_mask=target_mask, response_mask=target_mask, source=source, source_mask=source_mask
        )


def _padded(rows: Sequence[Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of unlike lengths as `[B, T]`, and where they are."""
    lengths_B1 = torch.tensor([[len(row)] for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad_id)
    return padded, torch.arange(padded.shape[1]) < lengths_B1
