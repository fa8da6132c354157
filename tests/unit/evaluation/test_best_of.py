"""One answer out of n samples: which one, at what cost, and how far from the policy it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.config import ModelConfig
from rlhf.engines.settings import TransformersRolloutConfig
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.errors import RewardError, RunError
from rlhf.evaluation.best_of import BestOfN
from rlhf.functional.selection import best_of_n_kl
from rlhf.types import Completion, Prompt, Rollout, Sampling
from tests.unit.engines.families import write_model, write_tokenizer


class Numbered:
    """Sample k of prompt p says `p k`, and is k + 1 tokens long."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        return [[self.completion(prompt, k) for k in range(sampling.num_samples)] for prompt in prompts]

    def completion(self, prompt: Prompt, k: int) -> Completion:
        return Completion(
            token_ids=(7,) * (k + 1), logprobs=(0.0,) * (k + 1), text=f"{prompt.id} {k}", finish_reason="stop"
        )

    def load_weights(self, weights: Iterator[Any], version: int) -> None: ...

    def sleep(self) -> None: ...

    def wake(self) -> None: ...


PROMPTS = [Prompt(id="a", text="a"), Prompt(id="b", text="b")]
SCORES: dict[str, float | None] = {
    "a 0": 0.0,
    "a 1": 3.0,
    "a 2": 3.0,
    "a 3": 1.0,
    "b 0": -1.0,
    "b 1": -2.0,
    "b 2": -0.5,
    "b 3": -4.0,
}


def by_table(rollouts: Sequence[Rollout]) -> list[float | None]:
    return [SCORES[rollout.completion.text] for rollout in rollouts]


def said(engine: BestOfN, seed: int = 0) -> list[list[str]]:
    return [[c.text for c in group] for group in engine.generate(PROMPTS, Sampling(max_tokens=8, seed=seed))]


def test_the_best_sample_of_each_prompt_is_given_and_all_are_paid_for() -> None:
    engine = BestOfN(Numbered(), by_table, 4)
    assert engine.figures() == {}
    assert said(engine) == [["a 1"], ["b 2"]]  # of equals the first
    assert engine.scores == [3.0, -0.5]
    assert engine.num_tokens == 2 * (1 + 2 + 3 + 4)
    assert engine.num_answers == 2
    assert engine.figures() == {"reward": 1.25, "tokens_per_answer": 10.0, "kl_bound": best_of_n_kl(4)}


def test_the_best_of_one_is_the_first_sample() -> None:
    assert said(BestOfN(Numbered(), by_table, 1)) == [["a 0"], ["b 0"]]


def test_best_of_n_refuses_to_give_several_answers() -> None:
    with pytest.raises(RunError, match="one answer a prompt, and 2"):
        BestOfN(Numbered(), by_table, 4).generate(PROMPTS, Sampling(max_tokens=8, num_samples=2))


def test_samples_whose_reward_failed_are_not_chosen() -> None:
    def failing(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [None if score is not None and score > 0 else score for score in by_table(rollouts)]

    assert said(BestOfN(Numbered(), failing, 4)) == [["a 0"], ["b 2"]]
    with pytest.raises(RewardError, match="failed on all 4 samples of prompt 'a'"):
        said(BestOfN(Numbered(), lambda rollouts: [None] * len(rollouts), 4))


def test_rejection_sampling_is_the_best_or_the_first_sample_in_its_limits_and_repeats_by_seed() -> None:
    assert said(BestOfN(Numbered(), by_table, 4, beta=1e-3)) == [["a 1"], ["b 2"]]
    assert said(BestOfN(Numbered(), by_table, 4, beta=1e6)) == [["a 0"], ["b 0"]]
    between = [said(BestOfN(Numbered(), by_table, 4, beta=2.0), seed) for seed in range(40)]
    assert between == [said(BestOfN(Numbered(), by_table, 4, beta=2.0), seed) for seed in range(40)]
    assert {texts[0][0] for texts in between} == {"a 0", "a 1"}  # the second is a best one: nobody looks further
    assert {texts[1][0] for texts in between} == {"b 0", "b 1", "b 2"}
    share = sum(texts[0][0] == "a 0" for texts in between) / 40
    assert share == pytest.approx(math.exp(-3 / 2), abs=0.2)
    engine = BestOfN(Numbered(), by_table, 4, beta=2.0)
    said(engine)
    assert "kl_bound" not in engine.figures()


# --- KL of what a model says -----------------------------------------------------------------------------------------

NUM_TOKENS, VOCABULARY = 2, range(3, 61)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model of two-token answers: some 3 700 of them, none likely enough to be drawn twice often."""
    folder = tmp_path_factory.mktemp("model")
    write_model("llama-tied", folder)
    write_tokenizer(folder)
    return str(folder)


def answer_probabilities(rollout: TransformersRollout, prompt: tuple[int, ...], temperature: float) -> torch.Tensor:
    """pi of every two-token answer, `[V, V]`."""
    network = rollout.network
    first = network(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    rows = torch.tensor([[*prompt, token] for token in range(61)])
    second = network(input_ids=rows).logits[:, -1].double()
    return (first / temperature).softmax(0)[:, None] * (second / temperature).softmax(1)


@torch.no_grad()
def test_the_measured_kl_of_best_of_n_is_the_formula(model: str) -> None:
    """Answers of a model, drawn by its engine and chosen by `BestOfN`; no two answers have one score."""
    engine = TransformersRollout(TransformersRolloutConfig(batch_size=2000), ModelConfig(path=model, dtype="float32"))
    prompt, temperature, n, num_answers = (5, 9, 20), 8.0, 4, 1500
    policy = answer_probabilities(engine, prompt, temperature)
    place = {pair: number for number, pair in enumerate(product(range(61), range(61)))}
    scores = torch.randperm(61 * 61).double()
    order = scores.argsort()
    upto = policy.flatten()[order].cumsum(0)
    best = torch.zeros_like(upto).scatter(0, order, upto**n - torch.cat([upto.new_zeros(1), upto[:-1]]) ** n)

    def score(rollouts: Sequence[Rollout]) -> list[float]:
        return [float(scores[place[_two(r.completion.token_ids)]]) for r in rollouts]

    prompts = [Prompt(id=str(number), text="", token_ids=prompt) for number in range(num_answers)]
    answers = BestOfN(engine, score, n).generate(
        prompts, Sampling(max_tokens=NUM_TOKENS, temperature=temperature, seed=1)
    )
    chosen = torch.tensor([place[_two(group[0].token_ids)] for group in answers])
    ratios = (best[chosen] / policy.flatten()[chosen]).log()
    error = 4 * float(ratios.std()) / num_answers**0.5
    assert error < 0.1
    assert float(ratios.mean()) == pytest.approx(best_of_n_kl(n), abs=error)


def _two(tokens: tuple[int, ...]) -> tuple[int, int]:
    """An answer that ended at once, as the pair it stands for: what follows the end does not matter."""
    return (tokens[0], tokens[1]) if len(tokens) == 2 else (tokens[0], 0)


def test_weights_and_rest_pass_through(tmp_path: Path) -> None:
    heard: list[str] = []

    class Listening(Numbered):
        def load_weights(self, weights: Iterator[Any], version: int) -> None:
            heard.append(f"weights {list(weights)} {version}")

        def sleep(self) -> None:
            heard.append("sleep")

        def wake(self) -> None:
            heard.append("wake")

    engine = BestOfN(Listening(), by_table, 2)
    engine.load_weights(iter([]), 3)
    engine.sleep()
    engine.wake()
    assert heard == ["weights [] 3", "sleep", "wake"]
