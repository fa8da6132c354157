"""A sample depends on its seed, prompt and weights and on nothing else; its log-probs are the trainer's."""

from __future__ import annotations

import gc

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.sampling import choose, uniforms
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.types import Prompt, Sampling, TokenBatch
from tests.unit.engines.answering import (
    assert_impossible_requests_are_refused,
    assert_stop_strings_end_samples,
    assert_streams_in_pieces,
    flat,
)
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

PROMPTS = [
    Prompt(id=str(i), text="", token_ids=ids)
    for i, ids in enumerate([(3, 4, 5, 6, 7), (8,), (9, 10, 11), (12, 13, 14, 15, 16, 17, 18), (20, 21)])
]


def rollout(path, batch_size=64):
    return TransformersRollout(TransformersRolloutConfig(batch_size=batch_size), ModelConfig(path=path))


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "phi", "gpt2", "gpt_neox"])
def test_greedy_is_transformers_greedy(model_path, family):
    engine = rollout(model_path(family), batch_size=3)
    network = AutoModelForCausalLM.from_pretrained(model_path(family)).eval()
    for prompt, (completion,) in zip(
        PROMPTS, engine.generate(PROMPTS, Sampling(max_tokens=12, temperature=0)), strict=True
    ):
        given = torch.tensor([prompt.token_ids])
        expected = network.generate(given, max_new_tokens=12, do_sample=False, eos_token_id=1, pad_token_id=0)
        assert list(completion.token_ids) == expected[0, given.shape[1] :].tolist()
        assert completion.finish_reason == ("stop" if completion.token_ids[-1] == 1 else "length")


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_a_sample_does_not_depend_on_its_batch(model_path, family):
    sampling = Sampling(max_tokens=16, temperature=1.3, num_samples=4, seed=5)
    together = rollout(model_path(family)).generate(PROMPTS, sampling)
    lengths = {len(c.token_ids) for group in together for c in group}
    assert len(lengths) > 2, "rows must leave the batch at different times for this test to mean anything"
    one_by_one = rollout(model_path(family), batch_size=1).generate(PROMPTS[::-1], sampling)[::-1]
    in_threes = rollout(model_path(family), batch_size=3).generate(PROMPTS, sampling)
    for groups in (one_by_one, in_threes):
        for left, right in zip(together, groups, strict=True):
            assert [c.token_ids for c in left] == [c.token_ids for c in right]
            for a, b in zip(left, right, strict=True):
                assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_answers_come_as_they_end_and_new_weights_in_between(model_path, family):
    other = AutoModelForCausalLM.from_pretrained(model_path(family))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert_streams_in_pieces(rollout(model_path(family)), PROMPTS, other.state_dict())


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_no_cache_outlives_a_call(model_path, family):
    """Keys and values are what has four dimensions; on a GPU they would take what training needs."""

    def cached():
        gc.collect()
        return sum(isinstance(found, torch.Tensor) and found.dim() == 4 for found in gc.get_objects())

    engine = rollout(model_path(family))
    before = cached()
    engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=3))
    assert cached() == before


def test_seeds_prompts_and_sample_indices_tell_samples_apart(model_path):
    engine = rollout(model_path("llama"))
    first = engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=3, seed=1))
    assert first == engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=3, seed=1))
    assert first != engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=3, seed=2))
    assert len({c.token_ids for c in first[0]}) == 3
    fewer = engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=2, seed=1))
    assert [group[:2] for group in first] == fewer
    renamed = [Prompt(id="x", text="", token_ids=PROMPTS[0].token_ids)]
    assert engine.generate(renamed, Sampling(max_tokens=8, num_samples=3, seed=1))[0] != first[0]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize(
    "narrowed", [{}, {"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}, {"logit_bias": {5: 4.0, 1: -100}}]
)
def test_logprobs_are_those_the_trainer_computes(model_path, temperature, narrowed):
    path = model_path("qwen3")
    sampling = Sampling(max_tokens=10, temperature=temperature, num_samples=2, **narrowed)
    spec = RoleSpec(role="policy", model=ModelConfig(path=path), temperature=temperature)
    trainer = TorchEngine(TorchConfig(), spec)
    for prompt, completions in zip(PROMPTS, rollout(path).generate(PROMPTS, sampling), strict=True):
        for completion in completions:
            tokens = torch.tensor([prompt.token_ids + completion.token_ids])
            real = torch.ones_like(tokens, dtype=torch.bool)
            batch = TokenBatch(tokens=tokens, attention_mask=real, response_mask=real)
            logprobs = trainer.forward(batch).logprobs[0, len(prompt.token_ids) :]
            torch.testing.assert_close(torch.tensor(completion.logprobs), logprobs, atol=1e-5, rtol=1e-5)


def test_draws_follow_the_distribution():
    """20,000 draws from 5 tokens; each share within four standard errors, with and without narrowing."""
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, -torch.inf]])
    number = 20_000
    draws = torch.stack([uniforms(0, "p", i, 1) for i in range(number)])[:, 0]
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    for narrowing, allowed in [
        ({}, [0, 1, 2, 3]),
        ({"top_k": 2}, [0, 3]),
        ({"top_p": 0.8}, [0, 3]),
        ({"top_p": 0.1}, [3]),
        ({"min_p": 0.28}, [0, 3]),  # the others have 0.287, 0.082 and 0.024 of the likeliest one's probability
        ({"min_p": 0.29}, [3]),
        ({"min_p": 0.05, "top_k": 2}, [0, 3]),
        ({"min_p": 1.0}, [3]),
    ]:
        sampling = Sampling(max_tokens=1, temperature=0.8, **narrowing)
        tokens, logprobs = choose(logits.expand(number, -1), draws, sampling)
        wanted = torch.zeros(5)
        wanted[allowed] = (logits[0, allowed] / 0.8).softmax(-1)
        shares = torch.bincount(tokens, minlength=5) / number
        assert float((shares - wanted).abs().max()) < 4 * (0.25 / number) ** 0.5
        torch.testing.assert_close(logprobs, (logits[0] / 0.8).log_softmax(-1)[tokens])


def test_draws_follow_the_biased_distribution_and_log_probs_the_policys():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    bias = torch.tensor([0.0, 2.0, 100.0, -100.0])
    number = 20_000
    draws = torch.stack([uniforms(0, "p", i, 1) for i in range(number)])[:, 0]
    for given in ({1: 2.0, 3: -100.0}, {1: 2.0, 2: 100.0, 3: -100.0}):
        sampling = Sampling(max_tokens=1, temperature=0.8, logit_bias=given)
        tokens, logprobs = choose(logits.expand(number, -1), draws, sampling)
        added = torch.tensor([bias[i] if i in given else 0.0 for i in range(4)])
        wanted = ((logits[0] + added) / 0.8).softmax(-1)
        shares = torch.bincount(tokens, minlength=4) / number
        assert float((shares - wanted).abs().max()) < 4 * (0.25 / number) ** 0.5
        torch.testing.assert_close(logprobs, (logits[0] / 0.8).log_softmax(-1)[tokens])
        greedy, _ = choose(logits, draws[:1], Sampling(max_tokens=1, temperature=0, logit_bias=given))
        assert greedy.item() == int((logits[0] + added).argmax())


def test_a_draw_at_either_end_is_a_possible_token():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)
    tokens, _ = choose(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), Sampling(max_tokens=1))
    assert tokens.tolist() == [1, 2]


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2"])
def test_trained_weights_arrive_whole(model_path, family):
    spec = RoleSpec(role="policy", model=ModelConfig(path=model_path(family)), optimizer=OptimizerConfig(lr=0.05))
    trainer = TorchEngine(TorchConfig(), spec)
    engine = rollout(model_path(family))
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    engine.load_weights(trainer.weights(), 7)
    completion = engine.generate(PROMPTS[:1], Sampling(max_tokens=8))[0][0]
    assert completion.policy_version == 7
    tokens = torch.tensor([PROMPTS[0].token_ids + completion.token_ids])
    real = torch.ones_like(tokens, dtype=torch.bool)
    expected = trainer.forward(TokenBatch(tokens=tokens, attention_mask=real, response_mask=real)).logprobs[0, 5:]
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("lm_head.weight"), "did not send 1 weights of the rollout model, such as 'lm_head.weight'"),
        (
            lambda w: w.update({"model.norm.wieght": torch.ones(32)}),
            "'model.norm.wieght'. Did you mean 'model.norm.weight'",
        ),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(31)}),
            r"'model.norm.weight' was sent as \(31,\).*\(32,\)",
        ),
        (lambda w: w.update({"lm_head.weight": w["lm_head.weight"] + 1}), "are tied in the rollout model but differ"),
    ],
)
def test_weights_that_do_not_match_are_refused_by_name(model_path, spoil, message):
    engine = rollout(model_path("llama-tied"))
    network = AutoModelForCausalLM.from_pretrained(model_path("llama-tied"))
    sent = dict(network.state_dict())
    spoil(sent)
    with pytest.raises(RunError, match=message):
        engine.load_weights(iter(sent.items()), 1)
    with pytest.raises(RunError, match="generation after weights failed to load"):
        engine.generate(PROMPTS, Sampling(max_tokens=2))
    engine.load_weights(iter(network.state_dict().items()), 2)
    engine.generate(PROMPTS, Sampling(max_tokens=2))


def test_prompts_that_do_not_fit_are_refused_before_any_runs(model_path):
    engine = rollout(model_path("llama"))
    for ids, message in [
        ((), "prompt 'p' has no tokens"),
        ((3, 61), "prompt 'p' has token 61; the model's vocabulary has 61"),
        ((3,) * 60, "prompt 'p' has 60 tokens and max_tokens is 5, together more than the context of 64"),
        ((3,) * 64, "prompt 'p' has 64 tokens, which leaves no room for an answer in the context of 64; shorten it"),
    ]:
        with pytest.raises(DataError, match=message):
            engine.generate([*PROMPTS, Prompt(id="p", text="", token_ids=ids)], Sampling(max_tokens=5))
    assert engine.generate([], Sampling(max_tokens=5)) == []
    (completion,) = engine.generate([Prompt(id="p", text="", token_ids=(3,) * 59)], Sampling(max_tokens=5))[0]
    assert 1 <= len(completion.token_ids) <= 5


def test_what_no_engine_can_do_is_refused(model_path):
    assert_impossible_requests_are_refused(rollout(model_path("llama")), PROMPTS)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_stop_strings_end_samples_and_keep_their_tokens(model_path, batch_size):
    engine = rollout(model_path("llama"), batch_size=batch_size)
    assert_stop_strings_end_samples(engine, PROMPTS, Sampling(max_tokens=12, num_samples=6, temperature=1.5))


def test_a_banned_token_never_comes_and_a_favoured_one_always(model_path):
    engine = rollout(model_path("llama"))
    sampling = Sampling(max_tokens=12, num_samples=8, temperature=1.5, logit_bias={1: -100})
    assert all(len(c.token_ids) == 12 for c in flat(engine.generate(PROMPTS, sampling)))
    always = engine.generate(PROMPTS, Sampling(max_tokens=12, logit_bias={7: 100}))
    assert {c.token_ids for c in flat(always)} == {(7,) * 12}


def test_a_folder_without_a_tokenizer_is_refused(model_path, tmp_path):
    AutoModelForCausalLM.from_pretrained(model_path("llama")).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot load the tokenizer of"):
        rollout(str(tmp_path))


def test_text_leaves_special_tokens_out_and_token_ids_keep_the_end(model_path):
    completions = rollout(model_path("llama")).generate(
        PROMPTS, Sampling(max_tokens=30, num_samples=8, temperature=2.0)
    )
    stopped = [c for group in completions for c in group if c.finish_reason == "stop"]
    assert stopped
    for completion in stopped:
        assert completion.token_ids.index(1) == len(completion.token_ids) - 1
        assert "<eos>" not in completion.text
        assert len(completion.logprobs) == len(completion.token_ids)


def test_sleep_and_wake(model_path):
    engine = rollout(model_path("llama"))
    before = engine.generate(PROMPTS, Sampling(max_tokens=4))
    engine.sleep()
    engine.wake()
    assert engine.generate(PROMPTS, Sampling(max_tokens=4)) == before
