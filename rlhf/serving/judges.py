"""The replica that holds rewards, graders and a reward model, and judges what several clients ask in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import serve

from rlhf.config import ModelConfig, RoleSpec
from rlhf.data.encode import Encoder
from rlhf.errors import ConfigError, DataError, UserError
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.rewards.asking import AskedReward
from rlhf.runtime.environment import prepare_environment
from rlhf.runtime.models import encoder_for
from rlhf.runtime.role_models import RoleModels
from rlhf.runtime.scoring import StageParts, build_rubric
from rlhf.serving.replica_ports import answer_this_machine_only
from rlhf.serving.settings import JudgeConfig
from rlhf.types import Completion, LabelledCompletion, Prompt, Rollout, Score

Row = Mapping[str, Any]
"""`messages` or `text`, `completion`, `finish_reason`, `reference`, `metadata`. Plain data."""
Judged = dict[str, Any]
"""`score`, None where the judge does not speak of the row; `error`, None where it could; `parts`."""


class Judges:
    """A Ray Serve deployment. `path` is the model whose tokens judges read: the reward model, or the served policy."""

    def __init__(self, path: str, judges: Sequence[Mapping[str, Any]], plugins: Mapping[str, Any]) -> None:
        prepare_environment()
        answer_this_machine_only()
        self._fault: str | None = None
        try:
            self._load(path, [JudgeConfig.model_validate(judge) for judge in judges], plugins)
        except UserError as error:  # trying again, as Serve would, cannot mend it
            self._fault = str(error)

    def _load(self, path: str, judges: Sequence[JudgeConfig], settings: Mapping[str, Any]) -> None:
        plugins = load_plugins(PluginSettings.model_validate(settings))
        plugins.require_healthy()
        self._encoder = encoder_for(ModelConfig(path=path))
        models = [judge.model for judge in judges if judge.model is not None]
        role_models = None
        if models:
            spec = RoleSpec(role="reward", model=ModelConfig(path=path))
            engine = plugins.registry.build("train_engine", "torch", {}, spec)
            role_models = RoleModels({"reward": spec}, {"reward": engine}, self._encoder, _one_by_one)
        parts = StageParts(plugins, role_models)
        self._judges: dict[str, AskedReward] = {
            judge.name: build_rubric((judge.part,), plugins, parts).parts[0] for judge in judges
        }
        for judge in judges:
            if judge.model is None and judge.part.type in _OF_A_MODEL:
                raise ConfigError(f"--reward {judge.name}: asks a reward model; give its folder, as --reward RUN/STAGE")

    async def describe(self) -> dict[str, Any]:
        """What it is, once it is there to be asked; `fault` where it cannot be."""
        return {"fault": self._fault}

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def judge(self, asked: list[tuple[str, list[Row]]]) -> list[list[Judged]]:
        """Rows of several requests, each with the name of the judge it is for; answers in order."""
        return await asyncio.get_running_loop().run_in_executor(None, self._judge, asked)

    def _judge(self, asked: Sequence[tuple[str, Sequence[Row]]]) -> list[list[Judged]]:
        answers: list[list[Judged]] = [[] for _ in asked]
        for name in dict.fromkeys(name for name, _ in asked):
            mine = [place for place, (judge, _) in enumerate(asked) if judge == name]
            judged = iter(self._scores(self._judges[name], [row for place in mine for row in asked[place][1]]))
            for place in mine:
                answers[place] = [_as_data(next(judged)) for _ in asked[place][1]]
        return answers

    def _scores(self, judge: AskedReward, rows: Sequence[Row]) -> list[Score]:
        scores = [Score()] * len(rows)
        readable: list[tuple[int, Rollout]] = []
        for number, row in enumerate(rows):
            try:
                readable.append((number, self._rollout(row)))
            except DataError as error:
                scores[number] = Score(error=str(error))
        if readable:
            for (number, _), score in zip(readable, judge([rollout for _, rollout in readable]), strict=True):
                scores[number] = score
        return scores

    def _rollout(self, row: Row) -> Rollout:
        """The row as a policy that reads these tokens would have written it."""
        prompt = Prompt(
            id=str(row.get("id", "request")),
            messages=row["messages"],
            text=row["text"],
            reference=row["reference"],
            metadata=row["metadata"],
        )
        prompt_ids, ids = _tokens(self._encoder, prompt, row["completion"], row["finish_reason"] == "stop")
        said = Completion(
            token_ids=ids, logprobs=(0.0,) * len(ids), text=row["completion"], finish_reason=row["finish_reason"]
        )
        return Rollout(prompt=replace(prompt, token_ids=prompt_ids), completion=said)


_OF_A_MODEL = ("reward_model", "cost_model", "process_reward")


def _tokens(encoder: Encoder, prompt: Prompt, completion: str, ended: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the prompt and of its completion, as in training. Raises `DataError` where the two are too long."""
    encoded = encoder.encode_labelled(LabelledCompletion(prompt=prompt, completion=completion, label=True))
    if encoded is None:
        raise DataError(f"prompt and completion have more than the {encoder.max_length} tokens that can be read")
    tokens = encoded.row.tokens
    start = encoded.row.trained.index(True)
    bos = encoder.tokenizer.bos_token_id
    begin = int(bos is not None and tokens[:2] == (bos, bos))  # the text of a rendered chat has its own
    end = len(tokens) if ended or tokens[-1] not in encoder.stop_ids else len(tokens) - 1
    return tokens[begin:start], tokens[start:end]


def _as_data(score: Score) -> Judged:
    return {"score": score.value, "error": score.error, "parts": dict(score.parts)}


def _one_by_one(*calls: Any) -> list[Any]:
    return [call() for call in calls]
