"""Token after token, each decoder says what the network says of the whole text."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf.engines import decoding
from rlhf.engines.cached_decoding import CachedDecoder
from rlhf.engines.decoder_choice import chosen_decoder
from rlhf.engines.decoding import SharedPromptDecoder
from tests.unit.engines.families import FAMILIES, VOCAB_SIZE

LENGTHS = (4, 2, 7, 3)
PLAIN = sorted(FAMILIES.keys() - {"gemma2"})


def network(path):
    return AutoModelForCausalLM.from_pretrained(path).eval()


@torch.no_grad()
def assert_decodes(decoder, network, num_samples, leaving, steps=12, seed=0):
    """Random texts, some of which leave at some steps; every logit against one pass over the whole text."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator) for length in LENGTHS]
    texts = [
        torch.cat([prompt, torch.randint(3, VOCAB_SIZE, (steps,), generator=generator)])
        for prompt, number in zip(prompts, num_samples, strict=True)
        for _ in range(number)
    ]
    lengths = [length for length, number in zip(LENGTHS, num_samples, strict=True) for _ in range(number)]
    expected = [network(input_ids=text[None], use_cache=False).logits[0] for text in texts]
    rows = list(range(len(texts)))
    logits = decoder.start([prompt.tolist() for prompt in prompts], list(num_samples))
    for step in range(steps):
        whole = torch.stack([expected[row][lengths[row] - 1 + step] for row in rows])
        torch.testing.assert_close(logits, whole, atol=2e-4, rtol=2e-4, msg=lambda m, s=step: f"step {s}: {m}")
        if step in leaving:
            kept = [place for place, row in enumerate(rows) if row not in leaving[step]]
            decoder.keep(torch.tensor(kept))
            rows = [rows[place] for place in kept]
        logits = decoder.step(torch.stack([texts[row][lengths[row] + step] for row in rows]))
    decoder.end()


@pytest.mark.parametrize("family", PLAIN)
@pytest.mark.parametrize("num_samples", [(3, 3, 3, 3), (1, 1, 1, 1), (1, 4, 2, 1)])
def test_samples_of_several_prompts_while_rows_leave(model_path, family, num_samples):
    model = network(model_path(family))
    decoder = chosen_decoder(model)
    assert isinstance(decoder, SharedPromptDecoder)
    last = sum(num_samples) - 1
    assert_decodes(decoder, model, num_samples, {1: {0}, 2: {last}, 6: {1}})


def test_a_family_with_another_attention_is_decoded_with_transformers_cache(model_path):
    model = network(model_path("gemma2"))
    decoder = chosen_decoder(model)
    assert isinstance(decoder, CachedDecoder)
    assert_decodes(decoder, model, (2, 1, 3, 2), {1: {0}, 4: {3, 5}})


def test_both_decoders_agree(model_path):
    model = network(model_path("qwen3"))
    assert_decodes(CachedDecoder(model), model, (3, 3, 3, 3), {1: {0, 4}, 2: {2}})


def test_room_grows_and_prompts_are_read_in_pieces(model_path, monkeypatch):
    monkeypatch.setattr(decoding, "ROOM", 2)
    monkeypatch.setattr(decoding, "READ_AT_ONCE", 6)
    model = network(model_path("llama"))
    decoder = chosen_decoder(model)
    assert [len(piece) for piece in decoding._pieces([(1,) * n for n in LENGTHS])] == [2, 1, 1]
    assert_decodes(decoder, model, (2, 2, 2, 2), {3: {1}})


def test_a_batch_leaves_nothing_for_the_next(model_path):
    model = network(model_path("llama"))
    decoder = chosen_decoder(model)
    for seed, num_samples in enumerate([(2, 2, 2, 2), (1, 3, 1, 1)]):
        assert_decodes(decoder, model, num_samples, {2: {0}}, seed=seed)
