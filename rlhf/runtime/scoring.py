"""The stage's rewards, costs and monitors, built from the recipe; where they meet graders and the reward model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.config import RewardPart
from rlhf.plugins import Plugins
from rlhf.protocols import HeadScores, JudgingRole, RewardFn
from rlhf.recipe import StageConfig
from rlhf.rewards.asking import AskedReward
from rlhf.rewards.building import PlainParts, build_reward
from rlhf.rewards.failures import Failures
from rlhf.rewards.gates import Judged
from rlhf.rewards.rubric import Combine, Rubric
from rlhf.runtime.reward_pool import FOLDER_NAME, RewardPool, Starter
from rlhf.runtime.reward_process import HostSetup, RewardProcess
from rlhf.runtime.role_models import RoleModels
from rlhf.types import Metrics, Rollout


class StageParts(PlainParts):
    """What rewards and graders may ask for (`rlhf.protocols.Parts`), the stage's models among it."""

    def __init__(self, plugins: Plugins, models: RoleModels | None = None) -> None:
        super().__init__(plugins.registry)
        self._role_models = models

    def reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        members = self.model_scores("reward", rollouts)
        sums = [[sum(heads) for heads in zip(*member.values(), strict=True)] for member in members]
        return [sum(scores) / len(sums) for scores in zip(*sums, strict=True)]

    def model_scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        return self._models(role).scores(role, rollouts)

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        return self._models(role).step_scores(role, rollouts, separator)

    def model_heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        return self._models(role).heads(role)

    def _models(self, role: JudgingRole) -> RoleModels:
        return self._role_models or self._refuse(role)


@dataclass(frozen=True)
class Homes:
    """Where rewards run that have processes of their own, and where a stage keeps what they say."""

    starter: Starter = RewardProcess
    folder: Path | None = None


class Verdict(NamedTuple):
    """What all parts said of one rollout, before numbers are made of it."""

    reward: Judged
    cost: Judged


class Scorer:
    """All that judges a stage's rollouts."""

    def __init__(self, config: StageConfig, plugins: Plugins, parts: StageParts, homes: Homes | None = None) -> None:
        homes = homes or Homes()
        self.rewards = build_rubric(config.reward, plugins, parts, homes=homes, combine=config.reward_combine)
        self.costs = build_rubric(config.cost, plugins, parts, what="cost", homes=homes) if config.cost else None
        self.monitor = Monitor(config.monitor, parts)
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="start")
        self._starting: list[Future[None]] = []

    def start(self) -> None:
        """Begin to start processes; the first question waits for them, and raises what is wrong with a reward."""
        pools = [
            part.reward for rubric in self._rubrics for part in rubric.parts if isinstance(part.reward, RewardPool)
        ]
        self._starting = [self._threads.submit(pool.start) for pool in pools]

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """What all parts say, in order, of any rollouts in any company."""
        for started in self._starting:
            started.result()
        if self.costs is None:
            return [Verdict(reward, {}) for reward in self.rewards.judge(rollouts)]
        rewards = self._threads.submit(self.rewards.judge, rollouts)
        costs = self.costs.judge(rollouts)
        return [Verdict(*verdict) for verdict in zip(rewards.result(), costs, strict=True)]

    def combine(self, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> list[Rollout]:
        """All rollouts of a step with rewards and costs; with an error where one of them failed."""
        rewards = self.rewards.combine(rollouts, [verdict.reward for verdict in verdicts])
        scored = [
            replace(rollout, reward=reward.total, reward_parts=reward.parts, error=reward.error)
            for rollout, reward in zip(rollouts, rewards, strict=True)
        ]
        if self.costs is None:
            return scored
        costs = self.costs.combine(rollouts, [verdict.cost for verdict in verdicts])
        return [
            replace(rollout, cost=cost.total, cost_parts=cost.parts, error=rollout.error or cost.error)
            for rollout, cost in zip(scored, costs, strict=True)
        ]

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Both, for rollouts that are a whole step."""
        return self.combine(rollouts, self.judge(rollouts))

    def metrics(self, rollouts: Sequence[Rollout]) -> Metrics:
        """Figures of rollouts: rewards and costs where they were scored, their parts, failures, and the monitors'."""
        errors = {name: count for rubric in self._rubrics for name, count in rubric.take_errors().items()}
        if any(rollout.reward is None for rollout in rollouts):
            return errors | self.monitor.metrics(rollouts)
        figures = _figures("reward", [r.reward for r in rollouts], self.rewards, [r.reward_parts for r in rollouts])
        if self.costs is not None:
            figures |= _figures("cost", [r.cost for r in rollouts], self.costs, [r.cost_parts for r in rollouts])
        return figures | errors | self.monitor.metrics(rollouts)

    def state(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {rubric.what: rubric.state() for rubric in self._rubrics}

    def restore(self, state: Mapping[str, Any]) -> None:
        for rubric in self._rubrics:
            rubric.restore(state[rubric.what])

    def close(self) -> None:
        """End the processes of rewards."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for rubric in self._rubrics:
            rubric.close()

    @property
    def _rubrics(self) -> list[Rubric]:
        return [self.rewards] if self.costs is None else [self.rewards, self.costs]


def build_rubric(
    rewards: Sequence[RewardPart],
    plugins: Plugins,
    parts: StageParts,
    *,
    what: str = "reward",
    homes: Homes | None = None,
    combine: Combine = "sum",
) -> Rubric:
    """Rewards as one; a second one of a type is called TYPE_2."""
    homes = homes or Homes()
    asked = []
    for name, part in named(rewards):
        processes = own_processes(part, plugins)
        if processes:
            setup = HostSetup(
                part=part, where=what, plugins=plugins.settings, fingerprints=plugins.fingerprints(guests_only=True)
            )
            log = homes.folder and homes.folder / FOLDER_NAME / f"{name}.log"
            reward: RewardFn = RewardPool(setup, processes, homes.starter, log)
        else:
            reward = build_reward(part, plugins.registry, parts, what)
        asked.append(AskedReward(name, reward, part))
    otherwise = 0.0 if what == "cost" else None
    return Rubric(asked, what, otherwise, combine=combine, failures=Failures(what, homes.folder))


def named(rewards: Sequence[RewardPart]) -> Iterator[tuple[str, RewardPart]]:
    """Every part with a name unlike the others'."""
    taken: Counter[str] = Counter()
    for part in rewards:
        stem = part.name or part.type
        taken[stem] += 1
        yield stem if taken[stem] == 1 else f"{stem}_{taken[stem]}", part


def own_processes(part: RewardPart, plugins: Plugins) -> int:
    """How many the reward runs in: what strangers wrote is kept apart unless the recipe says otherwise."""
    if part.processes is not None:
        return part.processes
    strangers = {info.name for info in plugins.infos if not info.is_built_in}
    grader = part.options.get("grader") if part.type == "graded" else None
    owners = [plugins.registry.get("reward", part.type).owner]
    if grader is not None:
        owners.append(plugins.registry.get("grader", grader["type"] if isinstance(grader, Mapping) else grader).owner)
    return int(bool(strangers & set(owners)))


def _figures(
    area: str, totals: Sequence[float | None], rubric: Rubric, parts: Sequence[Mapping[str, float]]
) -> Metrics:
    import torch

    values_B = torch.tensor(totals, dtype=torch.float64)
    figures: Metrics = {f"{area}/mean": float(values_B.mean()), f"{area}/std": float(values_B.std(unbiased=False))}
    alone = {rubric.parts[0].name} if len(rubric.parts) == 1 else set()
    for name in sorted({name for given in parts for name in given} - alone):
        values = [given[name] for given in parts if name in given]
        figures[f"{area}/{name}"] = sum(values) / len(values)
    return figures


class Monitor:
    """Graders that watch a run without being trained on; each prompt by the grader of its own axis, or by all."""

    def __init__(self, names: Sequence[str], parts: StageParts) -> None:
        self._graders = [parts.grader(name) for name in names]

    def metrics(self, rollouts: Sequence[Rollout]) -> Metrics:
        """Mean score of each axis, `gold/AXIS`, over all its graders; failed grades are left out."""
        scores: dict[str, list[float]] = {}
        for grader in self._graders:
            mine = [r for r in rollouts if r.prompt.metadata.get("axis", grader.axis) == grader.axis]
            graded = [grade.score for grade in grader.grade(mine) if grade.score is not None]
            scores.setdefault(grader.axis, []).extend(graded)
        return {f"gold/{axis}": sum(graded) / len(graded) for axis, graded in scores.items() if graded}
