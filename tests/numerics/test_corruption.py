"""What is taken out of texts: masked tokens and hidden spans."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rlhf.functional.corruption import hide_spans, mask_tokens, noise_spans

MASK_ID, OTHERS = 1, torch.arange(100, 150)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked(tokens: Tensor, eligible: Tensor, rate: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    return mask_tokens(tokens, eligible, rate, MASK_ID, OTHERS, seeded(seed))


def test_the_rate_of_the_eligible_is_chosen_and_nothing_else_is_touched() -> None:
    tokens, eligible = torch.arange(2, 42), torch.arange(40) % 2 == 0
    corrupted, chosen = masked(tokens, eligible, 0.15)
    assert int(chosen.sum()) == 3  # of 20
    assert not (chosen & ~eligible).any()
    assert torch.equal(corrupted[~chosen], tokens[~chosen])
    assert int(masked(tokens, eligible, 0.001)[1].sum()) == 1
    assert not masked(tokens, torch.zeros(40, dtype=torch.bool), 0.15)[1].any()
    assert torch.equal(tokens, torch.arange(2, 42))


def test_of_the_chosen_eight_in_ten_are_masked_one_replaced_and_one_left() -> None:
    tokens = torch.full((20_000,), 7)
    corrupted, chosen = masked(tokens, torch.ones(20_000, dtype=torch.bool), 0.5)
    of_chosen = corrupted[chosen]
    shares = [float(kind.float().mean()) for kind in (of_chosen == MASK_ID, of_chosen >= 100, of_chosen == 7)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    assert sum(shares) == pytest.approx(1)
    assert set(of_chosen[of_chosen >= 100].tolist()) == set(OTHERS.tolist())


def test_every_place_is_as_likely_and_the_seed_decides() -> None:
    tokens, eligible = torch.arange(2, 22), torch.ones(20, dtype=torch.bool)
    counts = sum(masked(tokens, eligible, 0.2, seed)[1].int() for seed in range(2000))
    torch.testing.assert_close(counts / 2000, torch.full((20,), 0.2), atol=0.05, rtol=0)  # type: ignore[operator]
    assert all(
        torch.equal(a, b) for a, b in zip(masked(tokens, eligible, 0.2), masked(tokens, eligible, 0.2), strict=True)
    )


# --- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 5, 17, 100])
@pytest.mark.parametrize(("rate", "mean_span"), [(0.15, 3.0), (0.5, 1.0), (0.9, 4.0), (0.01, 3.0)])
def test_spans_are_apart_ordered_and_of_the_rate(length: int, rate: float, mean_span: float) -> None:
    for seed in range(20):
        spans = noise_spans(length, rate, mean_span, seeded(seed))
        noise = min(max(round(length * rate), 1), length - 1)
        assert sum(end - start for start, end in spans) == noise
        assert len(spans) == min(max(round(noise / mean_span), 1), noise, length - noise)
        assert spans[0][0] >= 1
        assert spans[-1][1] == length  # what is kept stands before each span
        assert all(start < end for start, end in spans)
        assert all(one[1] < two[0] for one, two in pairwise(spans))
    assert noise_spans(1, rate, mean_span, seeded()) == []


def test_spans_differ_by_seed_and_cover_all_places_but_the_first() -> None:
    found = [noise_spans(12, 0.4, 2.0, seeded(seed)) for seed in range(300)]
    assert len({tuple(spans) for spans in found}) > 20
    covered = {place for spans in found for start, end in spans for place in range(start, end)}
    assert covered == set(range(1, 12))
    widths = [end - start for spans in found for start, end in spans]
    assert sum(widths) / len(widths) == pytest.approx(2.5)  # five tokens in round(5 / 2) = 2 spans


def test_the_seed_decides_the_spans() -> None:
    found = noise_spans(40, 0.4, 2.0, seeded(3))
    torch.rand(5)
    assert noise_spans(40, 0.4, 2.0, seeded(3)) == found


def test_hidden_spans_by_hand() -> None:
    """T5's own example: thank you for inviting me to your party last week."""
    thank, you, for_, inviting, me, to, your, party, last, week = range(10, 20)
    tokens = torch.tensor([thank, you, for_, inviting, me, to, your, party, last, week])
    source, target = hide_spans(tokens, [(2, 4), (8, 9)], torch.tensor([100, 101, 102, 103]), eos_id=1)
    assert source.tolist() == [thank, you, 100, me, to, your, party, 101, week]
    assert target.tolist() == [100, for_, inviting, 101, last, 102, 1]


def test_source_and_target_hold_the_whole_text() -> None:
    tokens, sentinels = torch.arange(200, 260), torch.arange(100, 140)
    for seed in range(20):
        spans = noise_spans(60, 0.3, 2.0, seeded(seed))
        source, target = hide_spans(tokens, spans, sentinels, eos_id=1)
        pieces: dict[int, list[int]] = {}
        for token in target.tolist()[:-2]:  # without the last sentinel and EOS
            if token < 200:
                pieces[token] = []
                last = token
            else:
                pieces[last].append(token)
        rebuilt = [t for token in source.tolist() for t in pieces.get(token, [token])]
        assert rebuilt == tokens.tolist()


def test_too_few_sentinels_are_refused_and_no_span_is_no_change() -> None:
    with pytest.raises(ValueError, match="2 spans need 3 sentinels, and there are 2"):
        hide_spans(torch.arange(9), [(1, 2), (4, 5)], torch.tensor([100, 101]), eos_id=1)
    source, target = hide_spans(torch.tensor([5]), [], torch.tensor([100]), eos_id=1)
    assert (source.tolist(), target.tolist()) == ([5], [100, 1])
