"""Real vLLM: samples by seed, log-probs of the trainer, weights that arrive, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig, VLLMRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.types import Completion, Prompt, Sampling, TokenBatch
from tests.unit.engines.answering import (
    assert_impossible_requests_are_refused,
    assert_stop_strings_end_samples,
    assert_streams_in_pieces,
    flat,
)
from tests.unit.engines.families import make_batch, write_model, write_tokenizer
from tests.unit.engines.losses import Likelihood
from tests.vllm.models import write_tied_qwen3

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPTS = [
    Prompt(id=str(i), text="", token_ids=ids) for i, ids in enumerate([(3, 4, 5, 6, 7), (8,), (9, 10, 11), (20, 21)])
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tied_qwen3(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(path: str) -> Any:
    from rlhf.engines.vllm_rollout import VLLMRollout

    return VLLMRollout(VLLMRolloutConfig(), ModelConfig(path=path))


@pytest.fixture
def as_saved(engine: Any, path: str) -> None:
    """The weights in the folder, whatever a test before this one left."""
    engine.load_weights(iter(AutoModelForCausalLM.from_pretrained(path).state_dict().items()), 0)


def trained_logprobs(trainer: TorchEngine, prompt: Prompt, completion: Completion) -> torch.Tensor:
    tokens = torch.tensor([prompt.token_ids + completion.token_ids])
    real = torch.ones_like(tokens, dtype=torch.bool)
    found = trainer.forward(TokenBatch(tokens=tokens, attention_mask=real, response_mask=real))
    return found.logprobs[0, len(prompt.token_ids) :]  # type: ignore[no-any-return, union-attr]


def gap(engine: Any, trainer: TorchEngine, sampling: Sampling) -> float:
    """The largest difference between the engine's log-probs and the trainer's."""
    return max(
        float((torch.tensor(completion.logprobs) - trained_logprobs(trainer, prompt, completion)).abs().max())
        for prompt, completions in zip(PROMPTS, engine.generate(PROMPTS, sampling), strict=True)
        for completion in completions
    )


@pytest.mark.usefixtures("as_saved")
def test_answers_come_as_they_end_and_new_weights_in_between(engine: Any, path: str) -> None:
    weights = AutoModelForCausalLM.from_pretrained(path).state_dict()
    newer = {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in weights.items()}
    newer["lm_head.weight"] = newer["model.embed_tokens.weight"]
    assert_streams_in_pieces(engine, PROMPTS, newer)


@pytest.mark.usefixtures("as_saved")
@pytest.mark.parametrize(
    ("temperature", "narrowed"),
    [
        (1.0, {}),
        (0.6, {}),
        (1.7, {}),
        (1.7, {"top_p": 0.8}),
        (0.6, {"top_k": 5}),
        (0.6, {"min_p": 0.1}),
        (1.3, {"logit_bias": {5: 4.0, 1: -100.0}}),
        (0.0, {}),
        (0.0, {"logit_bias": {5: 100.0}}),
    ],
)
def test_logprobs_are_those_the_trainer_computes(engine: Any, path: str, temperature: float, narrowed: Any) -> None:
    sampling = Sampling(max_tokens=10, temperature=temperature, num_samples=2, **narrowed)
    trainer = TorchEngine(
        TorchConfig(), RoleSpec(role="policy", model=ModelConfig(path=path), temperature=temperature or 1.0)
    )
    assert gap(engine, trainer, sampling) < 1e-4


@pytest.mark.usefixtures("as_saved")
def test_a_sample_follows_its_seed_and_not_its_batch(engine: Any) -> None:
    sampling = Sampling(max_tokens=8, num_samples=3, seed=1, temperature=1.3)
    together = engine.generate(PROMPTS, sampling)
    assert len({c.token_ids for group in together for c in group}) > 8
    alone = [engine.generate([prompt], sampling)[0] for prompt in reversed(PROMPTS)][::-1]
    fewer = engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=2, seed=1, temperature=1.3))
    other = engine.generate(PROMPTS, Sampling(max_tokens=8, num_samples=3, seed=2, temperature=1.3))
    tokens = [[c.token_ids for c in group] for group in together]
    assert [[c.token_ids for c in group] for group in alone] == tokens
    assert [[c.token_ids for c in group] for group in fewer] == [group[:2] for group in tokens]
    assert [[c.token_ids for c in group] for group in other] != tokens
    renamed = [Prompt(id="x", text="", token_ids=PROMPTS[0].token_ids)]
    assert [c.token_ids for c in engine.generate(renamed, sampling)[0]] != tokens[0]


@pytest.mark.usefixtures("as_saved")
def test_greedy_is_transformers_greedy_and_each_sample_is_it(engine: Any, path: str) -> None:
    network = AutoModelForCausalLM.from_pretrained(path).eval()
    found = engine.generate(PROMPTS, Sampling(max_tokens=12, temperature=0, num_samples=2))
    for prompt, (completion, again) in zip(PROMPTS, found, strict=True):
        given = torch.tensor([prompt.token_ids])
        expected = network.generate(given, max_new_tokens=12, do_sample=False, eos_token_id=1, pad_token_id=0)
        assert list(completion.token_ids) == expected[0, given.shape[1] :].tolist()
        assert completion == again


@pytest.mark.usefixtures("as_saved")
def test_text_leaves_special_tokens_out_and_token_ids_keep_the_end(engine: Any) -> None:
    groups = engine.generate(PROMPTS, Sampling(max_tokens=30, num_samples=8, temperature=2.0))
    stopped = [c for group in groups for c in group if c.finish_reason == "stop"]
    assert stopped
    for completion in stopped:
        assert completion.token_ids.index(1) == len(completion.token_ids) - 1
        assert "<eos>" not in completion.text
        assert len(completion.logprobs) == len(completion.token_ids)


@pytest.mark.usefixtures("as_saved")
def test_trained_weights_arrive_whole_tied_head_included(engine: Any, path: str) -> None:
    spec = RoleSpec(role="policy", model=ModelConfig(path=path), optimizer=OptimizerConfig(lr=0.05))
    trainer = TorchEngine(TorchConfig(), spec)
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    sampling = Sampling(max_tokens=8, num_samples=2)
    assert gap(engine, trainer, sampling) > 0.1, "before the hand-over the engine has other weights"
    engine.load_weights(trainer.weights(), 7)
    assert gap(engine, trainer, sampling) < 1e-4
    assert engine.generate(PROMPTS[:1], sampling)[0][0].policy_version == 7


@pytest.mark.usefixtures("as_saved")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("lm_head.weight"), "did not send 1 weights of the rollout model, such as 'lm_head.weight'"),
        (lambda w: w.update({"model.norm.wieght": w["model.norm.weight"]}), "Did you mean 'model.norm.weight'"),
        (lambda w: w.update({"model.norm.weight": torch.ones(31)}), r"was sent as \(31,\); the model has \(64,\)"),
        (lambda w: w.update({"lm_head.weight": w["lm_head.weight"] + 1}), "are tied in the rollout model but differ"),
    ],
)
def test_weights_that_do_not_match_are_refused_and_the_old_ones_stay(
    engine: Any, path: str, spoil: Callable[[Any], None], message: str
) -> None:
    before = engine.generate(PROMPTS, Sampling(max_tokens=4))
    sent = dict(AutoModelForCausalLM.from_pretrained(path).state_dict())
    sent["model.embed_tokens.weight"] = sent["lm_head.weight"] = sent["lm_head.weight"] + 0.1
    spoil(sent)
    with pytest.raises(RunError, match=message):
        engine.load_weights(iter(sent.items()), 1)
    assert engine.generate(PROMPTS, Sampling(max_tokens=4)) == before


@pytest.mark.usefixtures("as_saved")
def test_sleep_and_wake(engine: Any) -> None:
    before = engine.generate(PROMPTS, Sampling(max_tokens=4))
    engine.sleep()
    engine.wake()
    assert engine.generate(PROMPTS, Sampling(max_tokens=4)) == before


def test_what_does_not_fit_is_refused_before_any_prompt_runs(engine: Any) -> None:
    for ids, message in [
        ((), "prompt 'p' has no tokens"),
        ((3, 61), "prompt 'p' has token 61; the model's vocabulary has 61"),
        ((3,) * 60, "prompt 'p' has 60 tokens and max_tokens is 5, together more than the context of 64"),
        ((3,) * 64, "prompt 'p' has 64 tokens, which leaves no room for an answer in the context of 64"),
    ]:
        with pytest.raises(DataError, match=message):
            engine.generate([*PROMPTS, Prompt(id="p", text="", token_ids=ids)], Sampling(max_tokens=5))
    assert engine.generate([], Sampling(max_tokens=5)) == []
    assert_impossible_requests_are_refused(engine, PROMPTS)
    for temperature in (2.5, 0.001):
        with pytest.raises(ConfigError, match=rf"samples at 0 or from 0\.01 to 2, given {temperature:g}"):
            engine.generate(PROMPTS, Sampling(max_tokens=5, temperature=temperature))


@pytest.mark.usefixtures("as_saved")
def test_stop_strings_end_samples_and_keep_their_tokens(engine: Any) -> None:
    assert_stop_strings_end_samples(engine, PROMPTS, Sampling(max_tokens=12, num_samples=6, temperature=1.5))


@pytest.mark.usefixtures("as_saved")
def test_stop_strings_are_those_of_the_transformers_engine(engine: Any, path: str) -> None:
    """Greedy answers, which both engines agree on, word by word."""
    other = TransformersRollout(TransformersRolloutConfig(), ModelConfig(path=path))
    for stop in (("w5",), ("7 w",), (" w1", "w2"), ("3",)):
        sampling = Sampling(max_tokens=12, temperature=0, stop=stop, logit_bias={4: 2.0, 9: -100.0})
        mine, theirs = (flat(one.generate(PROMPTS, sampling)) for one in (engine, other))
        for a, b in zip(mine, theirs, strict=True):
            assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)


@pytest.mark.usefixtures("as_saved")
def test_a_banned_token_never_comes_and_narrowing_leaves_what_it_should(engine: Any) -> None:
    hot = Sampling(max_tokens=12, num_samples=8, temperature=1.5)
    assert all(len(c.token_ids) == 12 for c in flat(engine.generate(PROMPTS, replace(hot, logit_bias={1: -100.0}))))
    greedy = engine.generate(PROMPTS, replace(hot, temperature=0.0, num_samples=1))
    for likeliest in ({"min_p": 1.0}, {"top_k": 1}):
        narrowed = engine.generate(PROMPTS, replace(hot, num_samples=2, **likeliest))
        assert [group[1].token_ids for group in narrowed] == [group[0].token_ids for group in greedy]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpu_memory_utilisation": 0.5}, "no option 'gpu_memory_utilisation'. Did you mean 'gpu_memory_utilization'"),
        ({"max_num_seqs": 4}, "max_num_seqs is set by rlhf"),
        ({"trust_remote_code": True}, "trust_remote_code is set by rlhf"),
    ],
)
def test_unknown_options_are_refused_before_a_model_loads(path: str, options: dict[str, Any], message: str) -> None:
    from rlhf.engines.vllm_rollout import VLLMRollout

    with pytest.raises(ConfigError, match=message):
        VLLMRollout(VLLMRolloutConfig(options=options), ModelConfig(path=path))


def heads_of_16(folder: Path) -> None:
    write_model("llama", folder)


def architecture_of_2018(folder: Path) -> None:
    OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=61, n_embd=64, n_layer=1, n_head=2, n_positions=64)
    ).save_pretrained(folder)


@pytest.mark.parametrize("write", [heads_of_16, architecture_of_2018])
def test_a_model_vllm_cannot_run_names_the_engine_that_can(tmp_path: Path, write: Callable[[Path], None]) -> None:
    from rlhf.engines.vllm_rollout import VLLMRollout

    write(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"vLLM cannot run .*; set rollout\.engine: transformers"):
        VLLMRollout(VLLMRolloutConfig(), ModelConfig(path=str(tmp_path)))


def test_without_vllm_it_says_what_to_install(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf.engines.vllm_rollout import VLLMRollout

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlhf\[vllm\]'"):
        VLLMRollout(VLLMRolloutConfig(), ModelConfig(path=path))
