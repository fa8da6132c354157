"""Distillation: its loss, which steps are on-policy, and what it says before training where nobody teaches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.algorithms.distill import Distill, DistillConfig, DistillLoss, prompts_of
from rlhf.errors import ConfigError
from rlhf.functional.distillation import Divergence
from rlhf.runtime.pipeline import prepare
from rlhf.types import DistilledOutput, Metrics, Prompt, TokenBatch
from tests.tiny_runs import MODEL, changed, single
from tests.unit.algorithms.row_run import RowRun, Trainee

MASK = torch.tensor([[False, True, True, False], [False, False, True, True]])


def batch(weights: torch.Tensor | None = None) -> TokenBatch:
    tokens = torch.arange(8).view(2, 4)
    return TokenBatch(tokens=tokens, attention_mask=torch.ones_like(MASK), response_mask=MASK, loss_weights=weights)


def output(divergence: torch.Tensor) -> DistilledOutput:
    zero = torch.zeros_like(divergence)
    return DistilledOutput(logprobs=zero, entropy=zero + 2, divergence=divergence)


def test_the_loss_is_the_weighted_divergence_of_trained_tokens() -> None:
    loss = DistillLoss(Divergence())
    apart = torch.where(MASK, torch.arange(8.0).view(2, 4), math.nan).requires_grad_()
    total = loss(output(apart), batch()).total
    assert total.item() == 1 + 2 + 6 + 7
    assert loss.count(batch()) == 4
    total.backward()
    assert apart.grad is not None
    assert torch.equal(apart.grad, MASK.float())
    weights = torch.tensor([[9.0, 0.5, 2.0, 9.0], [9.0, 9.0, 0.0, 1.0]])
    assert loss(output(apart), batch(weights)).total.item() == 0.5 + 4 + 7
    assert loss.count(batch(weights)) == 3.5
    summed, count = loss(output(apart.detach()), batch()).sums["policy/entropy"]
    assert (summed.item(), count.item()) == (8, 4)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, Divergence(0.0, 1.0)),
        ({"divergence": "reverse_kl", "temperature": 2.0}, Divergence(1.0, 2.0)),
        ({"divergence": "jsd", "beta": 0.3}, Divergence(0.3, 1.0)),
    ],
)
def test_the_options_name_the_divergence(options: dict[str, Any], wanted: Divergence) -> None:
    assert Distill(DistillConfig(steps=1, **options)).loss.divergence == wanted


def test_a_row_before_its_first_trained_token_is_a_prompt() -> None:
    prompts = prompts_of(batch(), step=3)
    assert prompts == [Prompt(id="3/0", text="", token_ids=(0,)), Prompt(id="3/1", text="", token_ids=(4, 5))]


class Listening:
    """Writes down what each step learned from."""

    def __init__(self, steps: int) -> None:
        self.steps, self.log, self.policy = steps, [], self
        self.log: list[str]
        self.ended: list[int] = []

    def demonstrations(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        assert num_rows == 2
        return ((step, batch()) for step in range(1, self.steps + 1))

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        assert num_prompts == 2
        return ((step, [Prompt(id="p", text="", token_ids=(1,))]) for step in range(1, self.steps + 1))

    def sample(self, prompts: Sequence[Prompt], num_samples: int) -> list[str]:
        assert num_samples == 1
        return [f"{prompt.id}{prompt.token_ids}" for prompt in prompts]

    def collate(self, rollouts: Sequence[str]) -> str:
        return " ".join(rollouts)

    def train_step(self, rows: Any, loss: Any) -> Metrics:
        assert loss == DistillLoss(Divergence())
        self.log.append(rows if isinstance(rows, str) else "rows")
        return {"policy/loss": 0.5}

    def publish_weights(self) -> None:
        self.log.append("publish")

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[str]) -> None:
        assert metrics == {"policy/loss": 0.5}
        self.ended.append(step)
        self.log.append(f"end with {len(rollouts)}")


def heard(on_policy: float, steps: int) -> list[str]:
    run = Listening(steps)
    Distill(DistillConfig(steps=steps, batch_size=2, on_policy=on_policy)).run(run)  # type: ignore[arg-type]
    assert run.ended == list(range(1, steps + 1))
    return run.log


def test_off_policy_is_rows_alone_and_needs_no_rollout() -> None:
    assert heard(0.0, 2) == ["rows", "end with 0"] * 2
    algorithm = Distill(DistillConfig(steps=1))
    assert (algorithm.needs, algorithm.consumes) == ({"policy", "teacher"}, "demonstrations")


def test_on_policy_steps_are_spread_evenly_and_sample_from_weights_just_handed_over() -> None:
    assert heard(0.5, 4) == [
        "rows", "publish", "end with 0",
        "2/0(0,) 2/1(4, 5)", "end with 2",
        "rows", "publish", "end with 0",
        "4/0(0,) 4/1(4, 5)", "end with 2",
    ]  # fmt: skip
    on_policy = [line for line in heard(0.3, 100) if line.startswith("end with 2")]
    assert len(on_policy) == 30
    algorithm = Distill(DistillConfig(steps=1, on_policy=0.3))
    assert (algorithm.needs, algorithm.consumes) == ({"policy", "teacher", "rollout"}, "demonstrations")


def test_wholly_on_policy_takes_prompts() -> None:
    assert heard(1.0, 2) == ["p(1,)", "publish", "end with 1"] * 2
    assert Distill(DistillConfig(steps=1, on_policy=1.0)).consumes == "prompts"


# --- measuring -------------------------------------------------------------------------------------------------------


def told(rows: TokenBatch) -> DistilledOutput:
    """Token n has a divergence of n and a log-prob of -n / 10; NaN where nothing is trained."""
    numbers = torch.where(rows.response_mask, rows.tokens.float(), math.nan)
    return DistilledOutput(logprobs=-numbers / 10, entropy=numbers, divergence=numbers)


def test_held_out_rows_tell_how_far_the_teacher_is_and_how_likely_they_are() -> None:
    """Tokens 1 and 2 of the first row are trained, 6 and 7 of the second."""
    run: Any = RowRun(held_out=batch(), policy=Trainee(told))
    figures = Distill(DistillConfig()).measure(run)
    assert figures == {"kl_from_teacher": [1.5, 6.5], "loss": pytest.approx([0.15, 0.65])}
    run.held_out = batch(torch.tensor([[9.0, 1.0, 3.0, 9.0], [9.0, 9.0, 0.0, 0.5]]))
    figures = Distill(DistillConfig()).measure(run)
    assert figures == {"kl_from_teacher": [7 / 4, 7.0], "loss": pytest.approx([0.175, 0.7])}


def test_with_prompts_alone_the_divergence_is_of_one_sample_each() -> None:
    class Sampling:
        policy = Trainee(told)
        prompts = ("a", "b")

        def held_out_prompts(self) -> Sequence[str]:
            return self.prompts

        def sample(self, prompts: Sequence[str], num_samples: int) -> list[str]:
            return [f"{prompt} {number}" for prompt in prompts for number in range(num_samples)]

        def collate(self, rollouts: Sequence[str]) -> TokenBatch:
            assert rollouts == ["a 0", "b 0"]
            return batch()

    run: Any = Sampling()
    method = Distill(DistillConfig(steps=1, on_policy=1.0))
    assert method.measure(run) == {"kl_from_teacher": [1.5, 6.5]}
    run.prompts = ()
    assert method.measure(run) == {}


# --- before training -------------------------------------------------------------------------------------------------

STAGE = {"algorithm": {"type": "distill", "steps": 1}, "model": {"new": MODEL}}


def refusal(recipe: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        prepare(recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_teacher_there_is_nothing_to_learn_from() -> None:
    assert refusal(single(STAGE)) == "distill learns from a teacher: name one with teacher: PATH"
    assert refusal(single(STAGE, teacher={"new": MODEL})).startswith("teacher: a fresh model has nothing to teach")
    sft = changed(single(STAGE, teacher="x"), {"algorithm": {"type": "sft"}})
    assert refusal(sft) == "teacher: sft does not learn from a teacher; use distill, or leave it out"


def test_on_policy_needs_no_reward(model_path: Any) -> None:
    path = model_path("llama")
    prepare(single({**STAGE, "model": path}, teacher=path, algorithm__on_policy=0.5, rollout__max_tokens=8))


def test_a_teacher_that_is_not_there_is_missed_before_anything_runs(tmp_path: Path) -> None:
    recipe = single(STAGE, teacher=str(tmp_path / "nobody"))
    assert refusal(recipe).endswith("nobody is not a model folder (it has no config.json)")


def test_a_teacher_of_another_vocabulary_is_refused(model_path: Any) -> None:
    from transformers import AutoTokenizer

    student, teacher = (Path(model_path(family)) for family in ("llama", "qwen2"))
    vocabulary = AutoTokenizer.from_pretrained(teacher)
    vocabulary.add_tokens(["stranger"])
    vocabulary.save_pretrained(teacher)
    message = refusal(single({**STAGE, "model": str(student)}, teacher=str(teacher)))
    assert message.startswith(f"teacher: the model {teacher} has another vocabulary than {student}")
    assert "is none here" in message
