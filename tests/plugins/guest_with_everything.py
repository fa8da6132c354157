"""A guest plugin with one part of every kind and every hook; it writes down what the hooks are given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from rlhf import PartConfig, hookimpl
from rlhf.protocols import Algorithm, Parts, Run
from rlhf.types import Completion, Grade, Metrics, Prompt, Rollout, Sampling

Register = Callable[..., None]
events: list[Path] = []
"""The file events go to, once the run has a folder."""


def note(hook: str, **given: Any) -> None:
    with events[-1].open("a") as file:
        file.write(json.dumps({"hook": hook, "given": given}) + "\n")


# --- parts -----------------------------------------------------------------------------------------------------------


class QuestionConfig(PartConfig):
    """Options of the data set."""

    question: str


class Questions:
    """One question for ever."""

    def __init__(self, config: QuestionConfig) -> None:
        self.config = config
        self.sizes = {"prompts": 4, "texts": 4}

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        return repeat(self.config.question)

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        prompt = Prompt(id="0", messages=({"role": "user", "content": self.config.question},))
        return islice(repeat(prompt), start, None)


class AskingConfig(PartConfig):
    """Options of the algorithm."""

    num_prompts: int


class Asking(Algorithm):
    """Asks, scores, hands over the weights, and learns nothing."""

    needs = frozenset({"policy", "rollout"})
    consumes = "prompts"

    def __init__(self, config: AskingConfig) -> None:
        self.config = config

    def num_steps(self, rows_per_epoch: int) -> int:
        return 5

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.num_prompts):
            rollouts = run.score(run.sample(prompts, 1))
            run.publish_weights()
            run.finish_step(step, {}, rollouts)

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        return {}

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        return None


class MarkConfig(PartConfig):
    """Options of the train engine."""

    mark: str


class Marker:
    """A model that never changes; its export carries a mark."""

    def __init__(self, config: MarkConfig, spec: Any) -> None:
        self.config, self.source = config, Path(spec.model.path)

    def weights(self) -> Iterator[tuple[str, Any]]:
        return iter(())

    def export(self, path: Path) -> None:
        shutil.copytree(self.source, path)
        (path / "mark.txt").write_text(self.config.mark)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "mark.txt").write_text(self.config.mark)


class AnswerConfig(PartConfig):
    """Options of the rollout engine."""

    answer: str


class Parrot:
    """Says one thing."""

    def __init__(self, config: AnswerConfig, model: Any) -> None:
        self.answer, self.version = config.answer, 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        said = Completion(
            token_ids=(1,), logprobs=(0.0,), text=self.answer, finish_reason="stop", policy_version=self.version
        )
        return [[said] * sampling.num_samples for _ in prompts]

    def load_weights(self, weights: Iterator[tuple[str, Any]], version: int) -> None:
        assert list(weights) == []
        self.version = version


class Quarter:
    """Grades everything 0.25."""

    axis = "honest"

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        return [Grade(axis="honest", score=0.25) for _ in rollouts]


class ScaleConfig(PartConfig):
    """Options of the reward."""

    scale: float


class GradedReward:
    """A grader's score, scaled: it meets the grader through its parts."""

    def __init__(self, config: ScaleConfig, parts: Parts) -> None:
        self.scale, self.grader = config.scale, parts.grader("guest_grader")

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [self.scale * (grade.score or 0.0) for grade in self.grader.grade(rollouts)]


def two(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    return [2.0 for _ in zip(prompts, completions, strict=True)]


class Tracked:
    """Writes the mean reward of each step."""

    def __init__(self, config: Any, folder: Path) -> None:
        self.file = (folder / "tracked.txt").open("w")

    def log(self, step: int, metrics: Metrics) -> None:
        self.file.write(f"{step} {metrics['reward/mean']}\n")

    def close(self) -> None:
        self.file.write("closed\n")
        self.file.close()


# --- hooks -----------------------------------------------------------------------------------------------------------


@hookimpl
def register_rewards(register: Register) -> None:
    register("guest_function", two)
    register("guest_reward", GradedReward, config=ScaleConfig)


@hookimpl
def register_graders(register: Register) -> None:
    register("guest_grader", lambda config, parts: Quarter())


@hookimpl
def register_datasets(register: Register) -> None:
    register("guest_dataset", Questions, config=QuestionConfig)


@hookimpl
def register_algorithms(register: Register) -> None:
    register("guest_algorithm", Asking, config=AskingConfig)


@hookimpl
def register_train_engines(register: Register) -> None:
    register("guest_train_engine", Marker, config=MarkConfig)


@hookimpl
def register_rollout_engines(register: Register) -> None:
    register("guest_rollout_engine", Parrot, config=AnswerConfig)


@hookimpl
def register_trackers(register: Register) -> None:
    register("guest_tracker", Tracked)


@hookimpl
def on_run_start(stage: str, recipe: dict[str, Any], folder: Path) -> None:
    events.append(folder / "events.jsonl")
    note("on_run_start", stage=stage, name=recipe["name"], folder=str(folder))


@hookimpl
def on_rollouts(step: int, rollouts: Sequence[Rollout]) -> None:
    note(
        "on_rollouts",
        step=step,
        prompts=[r.prompt.last_user_text for r in rollouts],
        answers=[r.completion.text for r in rollouts],
        versions=[r.completion.policy_version for r in rollouts],
        rewards=[r.reward for r in rollouts],
        parts=[dict(r.reward_parts) for r in rollouts],
    )


@hookimpl
def on_step_end(step: int, metrics: Metrics) -> None:
    note("on_step_end", step=step, metrics=dict(metrics))
    metrics["on_step_end/was_here"] = 1.0


@hookimpl
def should_stop(step: int, metrics: Metrics) -> str | None:
    note("should_stop", step=step)
    return "two steps are enough" if step == 2 else None


@hookimpl
def on_checkpoint(step: int, path: Path) -> None:
    note("on_checkpoint", step=step, was_complete=(path / "policy" / "mark.txt").is_file())


@hookimpl
def on_run_end(stage: str, summary: dict[str, Any], folder: Path) -> None:
    note("on_run_end", stage=stage, summary=summary, model_was_there=(folder / "model" / "config.json").is_file())
