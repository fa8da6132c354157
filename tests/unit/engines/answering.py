"""What both rollout engines must do alike with stop strings, bias and impossible requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from rlhf.errors import ConfigError
from rlhf.types import Completion, Prompt, Sampling

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"num_samples": 0}, "num_samples: at least one completion a prompt, given 0"),
    ({"max_tokens": 0}, "max_tokens: at least 1, given 0"),
    ({"max_tokens": 64}, "max_tokens: 64 leaves no room for a prompt in the context of 64 tokens; lower it"),
    ({"min_p": 1.5}, "min_p: a share from 0 to 1 of the likeliest token's probability, given 1.5"),
    ({"stop": ("x", "")}, "stop: an empty text would end every completion before it begins; leave it out"),
    ({"logit_bias": {61: 1.0}}, "logit_bias: there is no token 61; the model's vocabulary has 61"),
]


def assert_impossible_requests_are_refused(engine: Any, prompts: list[Prompt]) -> None:
    for options, message in IMPOSSIBLE:
        with pytest.raises(ConfigError) as caught:
            engine.generate(prompts, Sampling(**{"max_tokens": 5, **options}))
        assert str(caught.value) == message


def assert_stop_strings_end_samples(engine: Any, prompts: list[Prompt], sampling: Sampling) -> None:
    """Without stop strings as the measure: the same samples, each cut where one of them is first complete.

    A token is a word `wN` here, and words are parted by spaces; so a stop string may be part of a word, or of two.
    """
    free = flat(engine.generate(prompts, sampling))
    stopped = 0
    for stop in (("w5",), ("7 w",), (" w1", "w2"), ("no such word",)):
        for before, after in zip(free, flat(engine.generate(prompts, replace(sampling, stop=stop))), strict=True):
            number = _tokens_until_stop(before.text.split(" "), before.token_ids, stop)
            assert after.token_ids == before.token_ids[:number]
            assert after.logprobs == pytest.approx(before.logprobs[:number], abs=1e-5)
            if number < len(before.token_ids) or _holds(before.text, stop):
                stopped += 1
                assert after.finish_reason == "stop"
                assert before.text.startswith(after.text)
                assert not any(text in f" {after.text}" for text in stop)
            else:
                assert after == replace(before, logprobs=after.logprobs)
    assert stopped > 10


def _tokens_until_stop(words: list[str], tokens: tuple[int, ...], stop: tuple[str, ...]) -> int:
    text, number = "", 0
    for token in tokens:
        number += 1
        if token > 2:  # the first three are special and not shown
            text += f" {words.pop(0)}"
        if _holds(text, stop):
            return number
    return number


def _holds(text: str, stop: tuple[str, ...]) -> bool:
    return any(one in f" {text.removeprefix(' ')}" for one in stop)


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


def assert_streams_in_pieces(engine: Any, prompts: Sequence[Prompt], newer: Mapping[str, Tensor]) -> None:
    """Prompts come as they end; weights loaded in the midst write the rest, and nothing old is left afterwards."""
    sampling = Sampling(max_tokens=24, temperature=1.3, num_samples=2, seed=3, logit_bias={1: 3.0})
    plain, version = engine.generate(prompts, sampling), engine.version
    pieces = [piece for piece in engine.stream(prompts, sampling) if piece]
    assert len(pieces) > 1, "all at once is no stream"
    ended = dict(item for piece in pieces for item in piece)
    assert [ended[place] for place in range(len(prompts))] == plain

    writing = engine.stream(prompts, sampling)
    before = [next(writing) for _ in range(4)]
    engine.load_weights(iter(newer.items()), version + 1)
    mixed = dict(item for piece in [*before, *writing] for item in piece)
    assert {said.policy_version for group in mixed.values() for said in group} == {version}
    assert [mixed[place] for place in range(len(prompts))] != plain
    after = engine.generate(prompts, sampling)
    assert {said.policy_version for group in after for said in group} == {version + 1}
    engine.load_weights(iter(newer.items()), version + 1)
    assert engine.generate(prompts, sampling) == after, "keys of the older weights were read"

    abandoned = engine.stream(prompts, sampling)
    next(abandoned)
    abandoned.close()
    assert engine.generate(prompts, sampling) == after
