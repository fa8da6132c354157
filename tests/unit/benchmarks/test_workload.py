"""The rows are as long as they say, for every library, and as padded as the reference's."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.throughput import workload as w


def test_padding_is_that_of_the_reference() -> None:
    sft = [sum(row) + 1 for row in w.demonstrations().lengths]
    pairs = [length for p, a, b in w.pairs().lengths for length in (p + a + 1, p + b + 1)]
    grpo = [prompt + w.NEW_TOKENS for (prompt,) in w.prompts().lengths]
    assert [round(w.padding(lengths), 2) for lengths in (sft, pairs, grpo)] == [0.61, 0.54, 0.17]
    assert max(sft + pairs) <= w.MAX_LENGTH


def test_a_word_is_a_token(tmp_path: Path) -> None:
    w.write_tokenizer(tmp_path, w.SMALL.vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(w.words("a", 20))["input_ids"] == w.word_ids("a", 20)
    for row, (prompt, completion) in zip(w.sft_rows(), w.demonstrations().lengths, strict=True):
        assert len(tokenizer(row["prompt"])["input_ids"]) == prompt
        assert len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) == prompt + completion
    for row, lengths in zip(w.pair_rows(), w.pairs().lengths, strict=True):
        found = [len(tokenizer(row[side])["input_ids"]) for side in ("prompt", "chosen", "rejected")]
        assert tuple(found) == lengths


def test_rows_are_the_same_every_time_and_differ() -> None:
    assert list(w.sft_rows()) == list(w.sft_rows())
    assert len({row["prompt"] for row in w.prompt_rows(64)}) == 64
