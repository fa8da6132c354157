"""The `Run` an algorithm sees: data in, samples and scores, weights handed over, steps finished."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlhf.errors import Interrupted, RewardError, RunError
from rlhf.plugins import Plugins
from rlhf.protocols import RolloutEngine
from rlhf.runtime.ahead import Call
from rlhf.runtime.checkpoints import Checkpoints, read_state
from rlhf.runtime.early import EarlyForwards
from rlhf.runtime.handover import Handover
from rlhf.runtime.journal import Directive, Journal
from rlhf.runtime.models import build_encoder
from rlhf.runtime.plan import StagePlan, build_algorithm, build_dataset, derived_seed
from rlhf.runtime.reward_pool import Starter
from rlhf.runtime.reward_process import RewardProcess
from rlhf.runtime.role_models import RoleModels
from rlhf.runtime.run_rows import RunRows
from rlhf.runtime.sampler import Read, Sampler
from rlhf.runtime.scoring import Homes, Scorer, StageParts
from rlhf.runtime.seeding import seed_generators
from rlhf.types import Metrics, Prompt, Rollout, ScoredBatch, Vocabulary


@dataclass(frozen=True)
class Ranks:
    """This process among those that run the same algorithm in step (Ray Train); alone elsewhere."""

    rank: int = 0
    barrier: Callable[[], None] = lambda: None
    agree: Callable[[int], int] = lambda directive: directive
    """The leading rank's number, in every rank."""


class LiveRun(RunRows):
    """Implements `rlhf.protocols.Run` over engines that live anywhere."""

    def __init__(
        self,
        plan: StagePlan,
        plugins: Plugins,
        engines: Mapping[str, Any],
        rollout: RolloutEngine | None,
        journal: Journal,
        *,
        ranks: Ranks | None = None,
        at_once: bool = False,
        reward_starter: Starter = RewardProcess,
    ) -> None:
        """`at_once`: the engines are other processes, which can be at work at the same time."""
        self.plan = plan
        self.algorithm = build_algorithm(plan.config, plugins)
        self.dataset = build_dataset(plan.config, plugins)
        self.encoder = build_encoder(plan)
        self.engines, self.journal = dict(engines), journal
        self.ranks = ranks or Ranks()
        self._threads = ThreadPoolExecutor(max_workers=8) if at_once else None
        models = RoleModels(plan.specs, self.engines, self.encoder, self._at_once)
        self._scorer = Scorer(plan.config, plugins, StageParts(plugins, models), Homes(reward_starter, plan.folder))
        self._scorer.start()
        self.rollout, self._sampler = rollout, None
        if rollout is not None:
            readers = self._read_early() if at_once and plan.config.rollout.stream else []
            given = (rollout, self.encoder.stop_ids, self._scorer.judge, readers)
            self._sampler = Sampler(plan, *given, background=at_once)
        self._kept_ahead: list[dict[str, Any]] = []
        """What a checkpoint has of samples drawn ahead, until the prompts are read again."""
        self._checkpoints = Checkpoints(plan.folder / "checkpoints", plan.config.checkpoint.keep)
        self._step, self._version, self._tokens_seen, self._ending = 0, 0, 0, False
        self._stream, self._start_position = None, None
        self._failed: list[Rollout] = []
        # Weights that come in flight may be overtaken by newer ones, so each hand-over must be whole.
        adapters_apart = plan.config.model.adapters_apart and not plan.config.rollout.in_flight_updates
        self._hand_over = Handover(self.note, adapters_apart=adapters_apart)
        self.before: dict[str, Any] = {}
        """What was measured on held-out rows before the first step; a resumed run has it from its checkpoint."""
        self._seconds: dict[str, float] = {}
        self._samplings = 0
        self._staleness: list[int] = []
        self._step_started = time.monotonic()

    # --- roles -------------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Any:
        return self.engines["policy"]

    @property
    def reference(self) -> Any:
        return self.engines["reference"]

    @property
    def value(self) -> Any:
        return self.engines["value"]

    @property
    def cost_value(self) -> Any:
        return self.engines["cost_value"]

    @property
    def reward(self) -> Any:
        return self.engines["reward"]

    @property
    def vocabulary(self) -> Vocabulary:
        return self.encoder.vocabulary

    def _read_early(self) -> list[Read]:
        """Let models read samples while others are being written: such as will be the same when they are asked."""
        lasting = ["reference"] if self.plan.config.rollout.max_staleness else ["reference", "value", "cost_value"]
        early = {role: EarlyForwards(self.engines[role]) for role in lasting if role in self.engines}
        self.engines |= early
        return [partial(self._give, model) for model in early.values()]

    def _give(self, model: EarlyForwards, rollouts: Sequence[Rollout]) -> None:
        model.give(self.encoder.rollout_batch(rollouts))

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Results of calls that touch different roles, at the same time where those are other processes."""
        with self._timed("train"):
            return self._at_once(*calls)

    def _at_once(self, *calls: Callable[[], Any]) -> list[Any]:
        if self._threads is None:
            return [call() for call in calls]
        return [future.result() for future in [self._threads.submit(call) for call in calls]]

    def _steps(self) -> Iterator[int]:
        while self._step < self.plan.num_steps and not self._ending:
            self._step += 1
            self._step_started, self._seconds, self._samplings, self._failed = time.monotonic(), {}, 0, []
            self._staleness = []
            seed_generators(derived_seed(self.plan.seed, "step", self._step))
            yield self._step

    def _counted(self, batch: Any) -> Any:
        self._tokens_seen += int(batch.inputs.attention_mask.sum())
        return batch

    # --- rollouts ----------------------------------------------------------------------------------------------------

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        """(step, prompts). Those of coming steps are read too, where samples are drawn ahead."""
        ahead = self._sampling.ahead
        ahead.restore(self._kept_ahead, partial(self._prompts_at, num_prompts))
        self._kept_ahead = []
        stream = self._open_prompts(num_prompts)

        def take() -> tuple[Mapping[str, int], list[Prompt]]:
            return {"item": stream.position["item"]}, stream.take()  # a prompt is one row

        return ((step, ahead.prompts(step, take)) for step in self._steps())

    def sample(self, prompts: Sequence[Prompt], num_samples: int, *, greedy: bool = False) -> list[Rollout]:
        """Completions of the policy, or of one up to `rollout.max_staleness` updates older; the same for the same seed,
        step, call and prompt.
        """
        call = Call(self._samplings, num_samples, greedy)
        self._samplings += 1
        with self._timed("generate"):
            rollouts = self._sampling.sample(self._step, call, prompts)
        if self._sampling.draws_ahead:
            self._staleness += map(self._stale_by, rollouts)
        return rollouts

    def _stale_by(self, rollout: Rollout) -> int:
        """Updates of the policy since the completion was begun."""
        return self._version - rollout.completion.policy_version

    @property
    def _sampling(self) -> Sampler:
        assert self._sampler is not None, "an algorithm that samples needs the role `rollout`"
        return self._sampler

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with rewards, without those whose reward failed."""
        with self._timed("score"):
            scored = self._scorer.combine(rollouts, self._sampling.verdicts(rollouts))
        failed = [rollout for rollout in scored if rollout.error is not None]
        if len(failed) == len(scored):
            raise RewardError(f"the reward failed on every completion of step {self._step}: {failed[0].error}")
        self._failed += failed
        return [rollout for rollout in scored if rollout.error is None]

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        """Rollouts as token rows; scores are NaN where nothing was scored."""
        batch = self._counted(self.encoder.rollout_batch(rollouts))
        sampled = torch.zeros(batch.tokens.shape, dtype=torch.float32)
        for row, rollout in enumerate(rollouts):
            sampled[row, batch.response_mask[row]] = torch.tensor(rollout.completion.logprobs, dtype=torch.float32)
        groups: dict[str, int] = {}
        costs = [rollout.cost for rollout in rollouts]
        return ScoredBatch(
            tokens=batch.tokens,
            attention_mask=batch.attention_mask,
            response_mask=batch.response_mask,
            sampled_logprobs=sampled,
            scores_B=torch.tensor([math.nan if r.reward is None else r.reward for r in rollouts], dtype=torch.float32),
            truncated_B=torch.tensor([rollout.completion.finish_reason == "length" for rollout in rollouts]),
            group_B=torch.tensor([groups.setdefault(rollout.prompt.id, len(groups)) for rollout in rollouts]),
            costs_B=None if None in costs else torch.tensor(costs, dtype=torch.float32),
            staleness_B=torch.tensor(list(map(self._stale_by, rollouts))) if self._sampling.draws_ahead else None,
        )

    def publish_weights(self) -> None:
        """Hand the policy's weights to the rollout engine under the next version, and see that they arrived."""
        self._version += 1
        with self._timed("sync"):
            self._sampling.send(self._hand_over.parcel(self.policy, self._version))

    # --- steps -------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say it once, however many ranks run the algorithm."""
        if self.ranks.rank == 0:
            self.journal.note(text)

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout] = ()) -> None:
        """Log the step, save when due, and leave when asked to."""
        everything = dict(metrics) | self._rollout_metrics(rollouts) | self._run_metrics()
        directive = Directive.GO_ON
        if self.ranks.rank == 0:
            directive = self.journal.step(step, everything, [*rollouts, *self._failed])
        self._failed = []
        directive = Directive(self.ranks.agree(directive))
        self._ending = directive is Directive.END or step == self.plan.num_steps
        if not self._ending:
            self._save_if_due(step, directive)
        elif self._sampler is not None:
            self._sampler.settle()

    def _save_if_due(self, step: int, directive: Directive) -> None:
        """After the step's lines are written: a run killed between the two repeats the step and lacks no line."""
        every = self.plan.config.checkpoint.every
        is_asked = directive is Directive.INTERRUPT
        if is_asked or (every and step % every == 0):
            path = self._save(step)
            if is_asked:
                raise Interrupted(f"stopped after step {step} of stage {self.plan.name!r}; saved in {path}")

    def resume(self) -> int:
        """Take up the newest checkpoint, if there is one; returns the steps already done."""
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return 0
        for role in self._trained_roles():
            self.engines[role].load(checkpoint / role)
        try:
            self._restore(read_state(checkpoint))
        except KeyError as absent:
            raise RunError(f"checkpoint {checkpoint}: run.json has no {absent}; another version wrote it") from None
        if self.rollout is not None:
            self._hand_over(self.policy, self.rollout, self._version)
        return self._step

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `_save` wrote beside the engines."""
        self.algorithm.restore(state["algorithm"])
        self._scorer.restore(state["rewards"])
        self._step, self._version, self._tokens_seen = state["step"], state["version"], state["tokens_seen"]
        position, self.before, self._kept_ahead = state["position"], state["before"], state["ahead"]
        self._start_position = {"item": position["item"], "row": position["row"]}
        self.encoder.dropped, self.encoder.cut = position["dropped"], position["cut"]

    @property
    def step(self) -> int:
        """Steps done, the current one included."""
        return self._step

    def close(self) -> None:
        """Let go the threads that spoke to other processes."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._sampler is not None:
            self._sampler.close()
        self._scorer.close()
        for engine in self.engines.values():
            if isinstance(engine, EarlyForwards):
                engine.close()

    def _save(self, step: int) -> Path:
        def write(folder: Path) -> None:
            for role in self._trained_roles():
                self.engines[role].save(folder / role)

        assert self._stream is not None
        state = {
            "step": step,
            "version": self._version,
            "tokens_seen": self._tokens_seen,
            "position": self._stream.position,
            "algorithm": self.algorithm.state(),
            "rewards": self._scorer.state(),
            "before": self.before,
            "ahead": [] if self._sampler is None else self._sampler.ahead.state(step),
        }
        leads = self.ranks.rank == 0
        path = self._checkpoints.save(step, write, state, leads=leads, barrier=self.ranks.barrier)
        if leads:
            self.journal.checkpoint(step, path)
        return path

    def _trained_roles(self) -> list[str]:
        return [role for role, spec in self.plan.specs.items() if spec.optimizer is not None]

    def _rollout_metrics(self, rollouts: Sequence[Rollout]) -> Metrics:
        if not rollouts:
            return {}
        reissued = getattr(self.rollout, "take_reissued", None)  # only a group of engines can lose one and go on
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
        figures: Metrics = {
            "reward/failed": float(len(self._failed)),
            "rollout/reissued": 0.0 if reissued is None else float(reissued()),
            "rollout/length": sum(lengths) / len(lengths),
            "rollout/truncated": sum(r.completion.finish_reason == "length" for r in rollouts) / len(rollouts),
        }
        if self._staleness:  # a plugin may log rollouts in a step in which none was sampled
            figures["rollout/staleness"] = sum(self._staleness) / len(self._staleness)
        return figures | self._scorer.metrics(rollouts)

    def _run_metrics(self) -> Metrics:
        figures = {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        figures["time/step"] = time.monotonic() - self._step_started
        figures["tokens/seen"] = float(self._tokens_seen)
        left_out = self._stream.position if self._stream is not None else self._left_out()
        figures["data/bad_rows"] = float(getattr(self.dataset, "bad_rows", 0))  # a plugin's data set may not count them
        return figures | {f"data/{name}": float(left_out[name]) for name in ("dropped", "cut")}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - start
