"""Requests that join and leave while others are being written get just what they would get alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlhf.config import ModelConfig
from rlhf.engines.settings import TransformersRolloutConfig
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.protocols import Writer, WritingEngine
from rlhf.types import Prompt, Sampling

PROMPTS = [
    Prompt(id=str(i), text="", token_ids=ids)
    for i, ids in enumerate([(3, 4, 5, 6, 7), (8,), (9, 10, 11), (12, 13, 14, 15, 16, 17, 18), (20, 21), (5, 5, 6)])
]
SAMPLINGS = [
    Sampling(max_tokens=16, temperature=1.3, seed=5),
    Sampling(max_tokens=9, temperature=0),
    Sampling(max_tokens=12, temperature=1.3, seed=6, top_k=5),
    Sampling(max_tokens=16, temperature=0.7, seed=7, logit_bias={1: -100.0}),
    Sampling(max_tokens=16, temperature=1.3, seed=8, stop_token_ids=tuple(range(2, 60, 3))),
    Sampling(max_tokens=16, temperature=1.3, seed=9, top_p=0.8),
]


def rollout(path, batch_size=64):
    return TransformersRollout(TransformersRolloutConfig(batch_size=batch_size), ModelConfig(path=path))


def written(writer: Writer, joins: dict[int, list[int]], dropped: dict[int, list[int]]):
    """What each request got, and why it ended; `joins` and `dropped` by step."""
    tokens: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    for step in range(200):
        for number in joins.pop(step, []):
            writer.add(str(number), PROMPTS[number], SAMPLINGS[number])
        for number in dropped.pop(step, []):
            writer.drop(str(number))
        if not writer.busy and not joins:
            return tokens, reasons
        for piece in writer.step():
            assert piece.request not in reasons, "nothing may follow the end"
            tokens.setdefault(piece.request, []).extend(piece.token_ids)
            if piece.finish_reason is not None:
                reasons[piece.request] = piece.finish_reason
    raise AssertionError("still being written after 200 steps")


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])  # gpt2 is written with transformers' own cache
@pytest.mark.parametrize("batch_size", [64, 2])
def test_a_request_gets_what_it_would_get_alone(model_path, family, batch_size):
    engine = rollout(model_path(family), batch_size)
    assert isinstance(engine, WritingEngine)
    joins = {0: [0, 1], 2: [2], 3: [3], 4: [4], 7: [5]}
    tokens, reasons = written(engine.writer(), joins, {})
    for number, (prompt, sampling) in enumerate(zip(PROMPTS, SAMPLINGS, strict=True)):
        ((alone,),) = engine.generate([prompt], replace(sampling, num_samples=1))
        assert tuple(tokens[str(number)]) == alone.token_ids
        assert reasons[str(number)] == alone.finish_reason
    assert set(reasons.values()) == {"stop", "length"}, "both ends must occur for this test to mean anything"


def test_who_is_dropped_is_written_no_further_and_disturbs_nobody(model_path):
    engine = rollout(model_path("llama"), batch_size=2)
    whole, _ = written(engine.writer(), {0: [0, 1, 2, 3]}, {})
    tokens, reasons = written(engine.writer(), {0: [0, 1, 2, 3]}, {2: [0], 1: [3]})  # 0 is being written, 3 waits
    assert len(tokens["0"]) == 2
    assert "3" not in tokens
    assert {n: tokens[n] for n in "12"} == {n: whole[n] for n in "12"}
    assert reasons.keys() == {"1", "2"}
