"""Questions put to a loaded network before it is trusted with a run: the answers cost a few tokens of arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.engines.layout import Layout
from rlhf.errors import ConfigError
from rlhf.types import TokenBatch

if TYPE_CHECKING:
    from rlhf.engines.models import PolicyModel


CANNOT = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError)
"""What a network may answer that was not written for the question."""


@torch.no_grad()
def check_head(model: PolicyModel, network: PreTrainedModel) -> None:
    """Our chunked head must give the log-probs of the network's own logits.

    Raises `ConfigError` where it does not: some families do more there than a matrix product.
    """
    tokens = _some_tokens(network, 6)
    sources_N = torch.arange(5, device=tokens.device)
    rows = Layout(tokens, None, places=sources_N[None], origins=sources_N)
    ours_N, _ = model(rows, sources_N, tokens[0, 1:], False)
    with model.precision.autocast():
        logits = network(input_ids=tokens, use_cache=False).logits.float() / model.head.temperature
    theirs_N = logits.log_softmax(-1)[0, :-1].gather(-1, tokens[0, 1:, None]).squeeze(-1)
    close = tolerance(model.precision.compute)
    if not torch.allclose(ours_N, theirs_N, atol=close, rtol=close):
        raise ConfigError(
            f"{type(network).__name__} computes its logits in a way this toolkit does not know "
            f"(log-probs differ by {float((ours_N - theirs_N).abs().max()):.2g}); use a model of another family"
        )


@torch.no_grad()
def check_reads_left_to_right(network: PreTrainedModel) -> None:
    """What follows a token must not change what is said of it. Raises `ConfigError` for an encoder."""
    tokens = _some_tokens(network, 6)
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % network.config.get_text_config().vocab_size
    one, two = (network.base_model(input_ids=ids, use_cache=False)[0][:, :-1] for ids in (tokens, other))
    close = tolerance(network.dtype)
    if not torch.allclose(one, two, atol=close, rtol=close):
        raise ConfigError(f"{type(network).__name__} reads ahead: encoders are no policies; masked_lm trains them")


@torch.no_grad()
def reads_packed_rows(network: PreTrainedModel, batch: TokenBatch, rows: Layout) -> bool:
    """Whether the rows of a batch, put end to end as `rows`, are read as each of them is alone."""
    try:
        packed = network.base_model(input_ids=rows.tokens, use_cache=False, **rows.arguments())[0][0]
    except CANNOT:
        return False
    close = tolerance(network.dtype)
    for tokens, length, places in zip(batch.tokens, batch.lengths_B.tolist(), rows.places, strict=True):
        alone = network.base_model(input_ids=tokens[None, :length], use_cache=False)[0][0]
        if not torch.allclose(packed[places[:length]], alone, atol=close, rtol=close):
            return False
    return True


def _some_tokens(network: PreTrainedModel, number: int) -> Tensor:
    vocab_size = network.config.get_text_config().vocab_size
    tokens = torch.randint(vocab_size, (1, number), generator=torch.Generator().manual_seed(0))
    return tokens.to(network.device)


def tolerance(dtype: torch.dtype) -> float:
    """What is wrong is off by far more than the rounding of the format."""
    return 1e-3 if dtype == torch.float32 else 0.3
