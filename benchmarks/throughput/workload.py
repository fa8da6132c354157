"""The one model and the rows that every contender gets: sizes, lengths, and the files they are written to.

A word is a token (`w17` is id 17), so lengths are exact for every library. The rows of a measure are exactly one batch:
every optimizer step of every contender sees the same rows, in whatever order it likes, and one step is one epoch.
Lengths are quantiles of a log-normal distribution, as lengths of real rows roughly are; a batch padded to its longest
row is then 54 to 61 % padding, as measured for the peers in the wild.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

SEED = 20261
SPECIALS = ("<|pad|>", "<|end|>", "<|unknown|>")

NUM_PROMPTS, NUM_SAMPLES, NEW_TOKENS = 8, 8, 64
SFT_ROWS, PAIRS, PPO_PROMPTS = 32, 16, 64
MAX_LENGTH = 512
"""What every contender is told to cut rows at; no row is that long."""


@dataclass(frozen=True)
class ModelSize:
    """Shape of a Qwen3 model; heads may be wider than the hidden size divided by their number."""

    hidden: int = 384
    layers: int = 8
    heads: int = 6
    kv_heads: int = 2
    head: int = 64
    mlp: int = 1024
    vocabulary: int = 4096

    @property
    def block_parameters(self) -> int:
        """Those of all layers that multiply: no norms."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def head_parameters(self) -> int:
        """The output head, which is also the (tied) table of embeddings."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All that multiply, the tied head once."""
        return self.block_parameters + self.head_parameters


SMALL = ModelSize()
HUNDRED_MILLION = ModelSize(hidden=768, layers=12, heads=12, kv_heads=12, mlp=2048, vocabulary=20_000)
"""For the hand-over alone: 100 M parameters."""


@dataclass(frozen=True)
class Rows:
    """One batch: lengths of each row in tokens, `(prompt, completion, ...)`, the end-of-text token not counted."""

    lengths: tuple[tuple[int, ...], ...]


def quantiles(num: int, mean: float, longest: int, shortest: int, sigma: float) -> list[int]:
    """`num` lengths of a log-normal distribution cut to its bounds, in random order (always the same)."""
    mu = math.log(mean) - sigma**2 / 2
    exact = [math.exp(mu + sigma * NormalDist().inv_cdf((i + 0.5) / num)) for i in range(num)]
    lengths = [min(longest, max(shortest, round(value))) for value in exact]
    lengths[-1] = longest
    random.Random(SEED).shuffle(lengths)
    return lengths


def demonstrations() -> Rows:
    """SFT: 32 rows, a third of each the prompt."""
    return Rows(tuple((total // 3, total - total // 3 - 1) for total in quantiles(SFT_ROWS, 103, 256, 16, 0.65)))


def pairs() -> Rows:
    """Preferences: 16 prompts with two completions each."""
    totals = quantiles(2 * PAIRS, 109, 230, 20, 0.55)
    both = zip(totals[:PAIRS], totals[PAIRS:], strict=True)
    return Rows(tuple((min(a, b) // 3, a - min(a, b) // 3 - 1, b - min(a, b) // 3 - 1) for a, b in both))


def prompts(num: int = NUM_PROMPTS) -> Rows:
    """For generation: lengths evenly between 6 and 42; with 64 new tokens, 17 % padding."""
    return Rows(tuple((6 + round(36 * i / (num - 1)),) for i in range(num)))


def padding(lengths: Sequence[int]) -> float:
    """Share of a batch that is padding where all rows are padded to the longest."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


# --- files -----------------------------------------------------------------------------------------------------------


def word_ids(seed: object, length: int) -> list[int]:
    """Random words, never a special token."""
    source = random.Random(f"{SEED} {seed}")
    return [source.randrange(len(SPECIALS), SMALL.vocabulary) for _ in range(length)]


def words(seed: object, length: int) -> str:
    """The same as text."""
    return " ".join(f"w{token}" for token in word_ids(seed, length))


def sft_rows() -> Iterator[dict[str, str]]:
    """Prompt and completion; the space between them belongs to no word."""
    for i, (prompt, completion) in enumerate(demonstrations().lengths):
        yield {"prompt": words(f"p{i}", prompt) + " ", "completion": words(f"c{i}", completion)}


def pair_rows() -> Iterator[dict[str, str]]:
    """A prompt and two completions."""
    for i, (prompt, chosen, rejected) in enumerate(pairs().lengths):
        sides = {"chosen": words(f"+{i}", chosen), "rejected": words(f"-{i}", rejected)}
        yield {"prompt": words(f"p{i}", prompt) + " ", **sides}


def prompt_rows(num: int) -> Iterator[dict[str, str]]:
    """Prompts alone."""
    for i, (length,) in enumerate(prompts(num).lengths):
        yield {"prompt": words(f"q{i}", length)}


@dataclass(frozen=True)
class Workload:
    """Where the files are."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def reward_model(self) -> Path:
        return self.folder / "reward_model"

    @property
    def big_model(self) -> Path:
        return self.folder / "big_model"

    def rows(self, name: str) -> Path:
        """`sft`, `pairs`, `prompts` (8, for groups of samples) or `distinct` (64)."""
        return self.folder / f"{name}.jsonl"

    def write(self, *, big: bool = False) -> None:
        """Models with random weights, the tokenizer, and the rows; a folder that has them is left as it is."""
        if not self.model.is_dir():
            write_model(self.model, SMALL)
            write_model(self.reward_model, SMALL, scores=True)
            files = {
                "sft": sft_rows(),
                "pairs": pair_rows(),
                "prompts": prompt_rows(NUM_PROMPTS),
                "distinct": prompt_rows(PPO_PROMPTS),
            }
            for name, rows in files.items():
                self.rows(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if big and not self.big_model.is_dir():
            write_model(self.big_model, HUNDRED_MILLION)


def write_model(folder: Path, size: ModelSize, *, scores: bool = False) -> None:
    """A Qwen3 model with random weights and the word tokenizer; with `scores` one that scores texts."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

    options: dict[str, Any] = {"num_labels": 1} if scores else {}
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        dtype="float32",
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = (Qwen3ForSequenceClassification if scores else Qwen3ForCausalLM)(config)
    model.save_pretrained(folder)
    write_tokenizer(folder, size.vocabulary)


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """`w17` is token 17; the first ids are special."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIALS, *(f"w{token}" for token in range(len(SPECIALS), vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({name: token for token, name in enumerate(names)}, unk_token=SPECIALS[2]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, end, unknown = SPECIALS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown, model_max_length=1024
    ).save_pretrained(folder)
