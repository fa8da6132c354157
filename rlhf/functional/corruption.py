"""Texts with parts taken out, which a model learns to put back: masked tokens, and spans behind sentinels.

Tokens are 1-D int64 tensors of one row; what is drawn comes from the generator alone.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def mask_tokens(
    tokens_L: Tensor, eligible_L: Tensor, rate: float, mask_id: int, random_ids: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`(corrupted_L, chosen_L)`: `rate` of the eligible tokens are chosen, at least one where there is any.

    Of the chosen, 80 % become `mask_id`, 10 % one of `random_ids`, and 10 % stay as they are, so that a model cannot
    tell from a token that it need not be predicted (Devlin et al. 2018, BERT, arXiv:1810.04805, appendix A.1).
    """
    places = eligible_L.nonzero().flatten()
    count = min(len(places), max(1, round(rate * len(places))))
    picked = places[torch.randperm(len(places), generator=generator)[:count]]
    chosen = torch.zeros_like(eligible_L)
    chosen[picked] = True
    draw = torch.rand(count, generator=generator)
    others = random_ids[torch.randint(len(random_ids), (count,), generator=generator)]
    corrupted = tokens_L.clone()
    corrupted[picked] = torch.where(draw < 0.8, mask_id, torch.where(draw < 0.9, others, tokens_L[picked]))
    return corrupted, chosen


def noise_spans(length: int, rate: float, mean_span: float, generator: torch.Generator) -> list[tuple[int, int]]:
    """`(start, end)` of the spans that are taken out of `length` tokens, in order, never two next to each other.

    `rate` of the tokens in all, in spans of `mean_span` on average (Raffel et al. 2020, T5, arXiv:1910.10683, section
    3.3.4). The first token is never in one. Empty for fewer than two tokens.
    """
    if length < 2:
        return []
    num_noise = min(max(round(length * rate), 1), length - 1)
    num_spans = min(max(round(num_noise / mean_span), 1), num_noise, length - num_noise)
    kept, taken = (_parts(total, num_spans, generator) for total in (length - num_noise, num_noise))
    spans, place = [], 0
    for before, width in zip(kept, taken, strict=True):
        spans.append((place + before, place + before + width))
        place += before + width
    return spans


def hide_spans(
    tokens_L: Tensor, spans: list[tuple[int, int]], sentinel_ids: Tensor, eos_id: int
) -> tuple[Tensor, Tensor]:
    """`(source, target)`: each span is one sentinel in the source; the target is sentinel, span, ..., sentinel, EOS.

    T5's format: "Thank you <X> me to your party <Y> week." and "<X> for inviting <Y> last <Z>". Raises ValueError where
    there are fewer sentinels than spans and one.
    """
    if len(sentinel_ids) <= len(spans):
        raise ValueError(f"{len(spans)} spans need {len(spans) + 1} sentinels, and there are {len(sentinel_ids)}")
    source: list[Tensor] = []
    target: list[Tensor] = []
    place = 0
    for number, (start, end) in enumerate(spans):
        sentinel = sentinel_ids[number : number + 1]
        source += [tokens_L[place:start], sentinel]
        target += [sentinel, tokens_L[start:end]]
        place = end
    last = sentinel_ids[len(spans) : len(spans) + 1]
    return torch.cat([*source, tokens_L[place:]]), torch.cat([*target, last, last.new_tensor([eos_id])])


def _parts(total: int, count: int, generator: torch.Generator) -> list[int]:
    """`total` as `count` whole numbers of at least one, every way of doing so as likely."""
    cuts = (torch.randperm(total - 1, generator=generator)[: count - 1] + 1).sort().values.tolist()
    edges = [0, *cuts, total]
    return [end - start for start, end in pairwise(edges)]
