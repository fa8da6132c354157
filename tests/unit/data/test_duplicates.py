"""Word n-grams, MinHash and copies, each against a plain computation with Python's sets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from rlhf.data.curation.minhash import Banding, MinHash
from rlhf.data.curation.near_duplicates import NearDuplicates, exact_duplicates, in_order, shared_bands
from rlhf.data.curation.wording import Grams, distinct_grams, jaccard, word_hashes, words_of

WORDS = [f"w{number}" for number in range(200)]


def sets_of(text: str, n: int) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@pytest.mark.parametrize("n", [1, 3, 8, 13])
def test_hashes_of_ngrams_are_equal_just_where_the_words_are(n: int) -> None:
    chance = random.Random(n)
    one, other = (" ".join(chance.choices("abc", k=60)) for _ in range(2))
    sets = [sets_of(text, n) for text in (one, other)]
    hashed = [distinct_grams([text], n) for text in (one, other)]
    assert [len(found) for found in hashed] == [len(found) for found in sets]
    assert jaccard(*hashed) == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))


def test_case_punctuation_and_spacing_do_not_count() -> None:
    assert np.array_equal(word_hashes(["What is  RAIN?"]), word_hashes(["what -- is rain"]))
    assert not np.array_equal(word_hashes(["what is rain"]), word_hashes(["what is reign"]))


def test_scripts_without_spaces_have_a_word_a_letter() -> None:
    assert words_of("GPT什么是雨?") == ["gpt", "什", "么", "是", "雨"]


def test_no_ngram_spans_two_texts() -> None:
    apart, together = distinct_grams(["a b", "c d"], 2), distinct_grams(["a b c d"], 2)
    assert np.isin(distinct_grams(["b c"], 2), together).all()
    assert not np.isin(distinct_grams(["b c"], 2), apart).any()


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_banding_meets_pairs_at_the_threshold_and_few_below(threshold: float) -> None:
    banding = Banding.for_threshold(threshold)
    assert banding.bands * banding.rows <= 128
    assert banding.probability(threshold) >= 0.99
    assert banding.probability(threshold / 3) < 0.2


def test_bands_meet_as_often_as_the_formula_says() -> None:
    banding, chance, similarity, tried = Banding(6, 3), np.random.default_rng(0), 0.6, 400
    minhash = MinHash(banding)
    met = 0
    for _ in range(tried):
        shared, mine, theirs = (chance.integers(0, 2**64, size, np.uint64) for size in (60, 20, 20))
        met += bool((minhash.keys(np.append(shared, mine)) == minhash.keys(np.append(shared, theirs))).any())
    expected = banding.probability(similarity)
    assert abs(met / tried - expected) < 4 * (expected * (1 - expected) / tried) ** 0.5


def test_the_first_of_equal_rows_is_the_original() -> None:
    chance = np.random.default_rng(1)
    keys = chance.integers(0, 4, (50, 2)).astype(np.uint64)
    seen: dict[tuple[int, int], int] = {}
    expected = []
    for number, key in enumerate(map(tuple, keys.tolist())):
        expected.append(seen.get(key, -1))
        seen.setdefault(key, number)
    assert exact_duplicates(keys).tolist() == expected


def near_duplicates(texts: Sequence[str], threshold: float) -> dict[int, int]:
    minhash = MinHash(Banding.for_threshold(threshold))
    keys = np.stack([minhash.keys(Grams(word_hashes([text])).of(3)) for text in texts], axis=1)
    alive = np.ones(len(texts), bool)
    finder = NearDuplicates(threshold, lambda row: distinct_grams([texts[row]], 3))
    blocks = [(start, keys[:, start : start + 7]) for start in range(0, len(texts), 7)]
    return {d.row: d.original for d in in_order(blocks, shared_bands(keys, alive), alive, finder)}


def test_each_removed_row_is_like_one_that_is_kept_and_nearly_all_are_found() -> None:
    chance, threshold = random.Random(5), 0.7
    texts = [" ".join(chance.choices(WORDS, k=40)) for _ in range(60)]
    for number in range(60):
        words = texts[number].split()
        for place in chance.sample(range(40), chance.choice((1, 2, 5, 10))):
            words[place] = "changed"
        texts.append(" ".join(words))
    sets = [sets_of(text, 3) for text in texts]

    def alike(one: int, other: int) -> float:
        return len(sets[one] & sets[other]) / len(sets[one] | sets[other])

    found = near_duplicates(texts, threshold)

    kept = [number for number in range(120) if number not in found]
    assert all(alike(row, original) >= threshold and original in kept for row, original in found.items())
    copies = [row for row in range(60, 120) if alike(row, row - 60) >= threshold]
    assert 10 < len(copies) < 50, "the test has both kinds"
    assert len(found.keys() & set(copies)) >= 0.95 * len(copies)
    assert found.keys() <= set(copies)


def test_a_chain_of_small_steps_does_not_swallow_what_is_unlike_its_beginning() -> None:
    words = [f"start{number}" for number in range(40)]
    chain = []
    for step in range(9):
        words[4 * step : 4 * step + 4] = [f"step{step}-{n}" for n in range(4)]
        chain.append(" ".join(words))
    steps = [sets_of(text, 3) for text in chain]
    assert all(len(a & b) / len(a | b) >= 0.6 for a, b in pairwise(steps)), "each is like the one before it"
    found = near_duplicates(chain, 0.6)
    kept = [number for number in range(9) if number not in found]
    assert len(kept) > 2
    assert all(original in kept for original in found.values())
