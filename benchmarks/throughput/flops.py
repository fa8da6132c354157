"""Arithmetic a measure cannot do without, as the reference counts it: useful tokens only, nothing twice.

A token generated or scored costs 2N plus attention (4 x layers x width x context); one trained three times that, as
no activation is recomputed. N are the parameters that multiply: those of the layers, and of the output head where it is
asked. Context is what a token really attends to, itself included, so a row of length L adds up to L (L + 1) / 2.

What a contender does beyond (padding, recomputing, a prompt once more for each sample of its group when generating) is
its own affair: it makes it slower at the same useful work. Prompts count once in generation, and for every sample in
training, as in the reference; log-probs of the samples under the policy that drew them count nowhere, since the
rollout knows them.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.throughput.workload import ModelSize


def score_row(size: ModelSize, length: int, *, head: bool = True) -> float:
    """One row forward; `head`: through the vocabulary too (a reward or value model has none)."""
    parameters = size.block_parameters + (size.head_parameters if head else 0)
    attention = 4 * size.layers * size.heads * size.head * length * (length + 1) / 2
    return 2 * parameters * length + attention


def train_row(size: ModelSize, length: int, *, head: bool = True) -> float:
    """One row forward and backward."""
    return 3 * score_row(size, length, head=head)


def generate(size: ModelSize, prompts: Iterable[int], num_samples: int, new_tokens: int) -> float:
    """`num_samples` completions of each prompt; the prompt runs once, its last token gives the first new one."""
    total = 0.0
    for prompt in prompts:
        shared = score_row(size, prompt)
        continued = score_row(size, prompt + new_tokens - 1) - shared
        total += shared + num_samples * continued
    return total


def train_rows(size: ModelSize, lengths: Iterable[int], *, head: bool = True) -> float:
    """One pass over rows of these lengths."""
    return sum(train_row(size, length, head=head) for length in lengths)


def score_rows(size: ModelSize, lengths: Iterable[int], *, head: bool = True) -> float:
    """One forward pass over rows of these lengths."""
    return sum(score_row(size, length, head=head) for length in lengths)
