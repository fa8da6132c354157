"""The `Run` an algorithm sees: data in, samples and scores, weights handed over, steps finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rlhf.errors import Interrupted, RewardError, RunError
from rlhf.plugins import Plugins
from rlhf.protocols import RolloutEngine
from rlhf.runtime.ahead import Call
from rlhf.runtime.checkpoints import Saves, read_state, stage_checkpoints
from rlhf.runtime.early import EarlyForwards
from rlhf.runtime.handover import Handover
from rlhf.runtime.interruption import Interruption
from rlhf.runtime.journal import Directive, Journal
from rlhf.runtime.learning import Learning
from rlhf.runtime.models import build_encoder
from rlhf.runtime.plan import StagePlan, build_algorithm, build_dataset, derived_seed
from rlhf.runtime.ranks import Ranks
from rlhf.runtime.reward_pool import Starter
from rlhf.runtime.reward_process import RewardProcess
from rlhf.runtime.role_models import RoleModels
from rlhf.runtime.run_rows import RunRows
from rlhf.runtime.sampler import Read, Sampler
from rlhf.runtime.scored_rows import scored_batch
from rlhf.runtime.scoring import Homes, Scorer, StageParts
from rlhf.runtime.seeding import seed_generators
from rlhf.runtime.step_figures import StepFigures
from rlhf.types import Metrics, Prompt, Rollout, ScoredBatch, Vocabulary


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
        self.engines: dict[str, Any] = {
            role: engine if role not in self._trained_roles() else Learning(engine, self._learns)
            for role, engine in engines.items()
        }
        self.journal = journal
        self._interruption = Interruption.current()
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
        self._checkpoints = stage_checkpoints(plan, self.note, self.ranks)
        self._saves = Saves(self._checkpoints, self.ranks, self.note, time.monotonic)
        self._step, self._version, self._tokens_seen, self._ending = 0, 0, 0, False
        self._done, self._state_when_done, self._has_learnt = 0, "", False
        self._metrics_when_done: Metrics = {}
        self._stream, self._start_position = None, None
        self._failed: list[Rollout] = []
        # Weights that come in flight may be overtaken by newer ones, so each hand-over must be whole.
        adapters_apart = plan.config.model.adapters_apart and not plan.config.rollout.in_flight_updates
        self._hand_over = Handover(self.note, adapters_apart=adapters_apart)
        self.before: dict[str, Any] = {}
        """What was measured on held-out rows before the first step; a resumed run has it from its checkpoint."""
        self._figures = StepFigures()
        self._samplings = 0

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
        with self._figures.timed("train"):
            return self._at_once(*calls)

    def _at_once(self, *calls: Callable[[], Any]) -> list[Any]:
        if self._threads is None:
            return [call() for call in calls]
        return [future.result() for future in [self._threads.submit(call) for call in calls]]

    def _steps(self) -> Iterator[int]:
        while self._step < self.plan.num_steps and not self._ending:
            self._step += 1
            self._figures, self._samplings, self._failed, self._has_learnt = StepFigures(), 0, [], False
            seed_generators(derived_seed(self.plan.seed, "step", self._step))
            yield self._step

    def _learns(self) -> None:
        """A model is about to change: from here on the step must be finished before anything can be saved."""
        self._has_learnt = True

    def _droppable(self) -> AbstractContextManager[None]:
        """What may be left at a signal: all of a step until it learns."""
        return nullcontext() if self._has_learnt else self._interruption.drops_this()

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
        with self._figures.timed("generate"), self._droppable():
            rollouts = self._sampling.sample(self._step, call, prompts)
        if self._sampling.draws_ahead:
            self._figures.staleness += map(self._stale_by, rollouts)
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
        with self._figures.timed("score"), self._droppable():
            scored = self._scorer.combine(rollouts, self._sampling.verdicts(rollouts))
        failed = [rollout for rollout in scored if rollout.error is not None]
        if len(failed) == len(scored):
            raise RewardError(f"the reward failed on every completion of step {self._step}: {failed[0].error}")
        self._failed += failed
        return [rollout for rollout in scored if rollout.error is None]

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        """Rollouts as token rows; scores are NaN where nothing was scored."""
        rows = self._counted(self.encoder.rollout_batch(rollouts))
        staleness = list(map(self._stale_by, rollouts)) if self._sampling.draws_ahead else None
        return scored_batch(rows, rollouts, staleness)

    def publish_weights(self) -> None:
        """Hand the policy's weights to the rollout engine under the next version, and see that they arrived."""
        self._version += 1
        with self._figures.timed("sync"):
            self._sampling.send(self._hand_over.parcel(self.policy, self._version))

    # --- steps -------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say it once, however many ranks run the algorithm."""
        if self.ranks.rank == 0:
            self.journal.note(text)

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout] = ()) -> None:
        """Log the step, save when due, and leave when asked to."""
        everything = dict(metrics) | self._measured(rollouts)
        self._checkpoints.require_metric(everything)
        self._set_done(step, everything)
        directive = Directive.GO_ON
        if self.ranks.rank == 0:
            directive = self.journal.step(step, everything, [*rollouts, *self._failed])
        self._failed = []
        directive = Directive(self.ranks.agree(directive))
        if directive is Directive.INTERRUPT:
            self.leave()
        is_due = self._saves.due(step) or directive is Directive.SAVE
        if is_due and step < self.plan.num_steps:  # the line of the step first: a run killed in between repeats it
            self._save()
        self._checkpoints.tell()
        self._ending = self._ending or directive is Directive.END
        if self._sampler is not None and (self._ending or step == self.plan.num_steps):
            self._sampler.settle()

    def resume(self) -> int:
        """Take up the newest checkpoint, if there is one; returns the steps already done."""
        checkpoint = self._checkpoints.newest_good()
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
        """Take up what was saved beside the engines."""
        self.algorithm.restore(state["algorithm"])
        self._scorer.restore(state["rewards"])
        self._step, self._version, self._tokens_seen = state["step"], state["version"], state["tokens_seen"]
        position, self.before = state["position"], state["before"]
        self._kept_ahead, self._ending = state["ahead"], state["ending"]
        self._start_position = {"item": position["item"], "row": position["row"]}
        self.encoder.dropped, self.encoder.cut = position["dropped"], position["cut"]
        self._set_done(self._step, {})

    def measure(self) -> Mapping[str, Sequence[float]]:
        """The algorithm's figures of the model as it is."""
        with self._interruption.drops_this():
            return self.algorithm.measure(self)

    def leave(self) -> NoReturn:
        """Drop what is not finished, save the run as it was after its last step, and raise `Interrupted`."""
        if not self._done:
            raise Interrupted(f"stopped before step 1 of stage {self.plan.name!r} was done; there was nothing to save")
        raise Interrupted(
            f"stopped after step {self._done} of stage {self.plan.name!r}; saved in {self._save(leaving=True)}"
        )

    @property
    def step(self) -> int:
        """Steps done, the current one included."""
        return self._step

    def close(self, *, at_once: bool = False) -> None:
        """Wait for uploads, unless the run leaves at once; let go the threads that spoke to other processes."""
        if not at_once:
            self._checkpoints.settle()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._sampler is not None:
            self._sampler.close()
        self._scorer.close()
        for engine in self.engines.values():
            if isinstance(engine, EarlyForwards):
                engine.close()

    def _save(self, *, leaving: bool = False) -> Path | None:
        """The run as it was when the last step was done; what has begun since has changed nothing else."""
        step = self._done
        if step in self._checkpoints.steps():
            return self._checkpoints.folder / f"step-{step}"

        def write(folder: Path) -> None:
            for role in self._trained_roles():
                self.engines[role].save(folder / role)

        state = json.loads(self._state_when_done)
        state["ahead"] = [] if self._sampler is None else self._sampler.ahead.state(step)
        state["ending"] = self._ending
        path = self._saves.save(step, write, state, self._metrics_when_done, leaving=leaving)
        if path is not None and self.ranks.rank == 0:
            self.journal.checkpoint(step, path)
        return path

    def _set_done(self, step: int, metrics: Metrics) -> None:
        """Note all that a resumed run must know besides models and samples drawn ahead."""
        state = {
            "step": step,
            "version": self._version,
            "tokens_seen": self._tokens_seen,
            "position": self._position(),
            "algorithm": self.algorithm.state(),
            "rewards": self._scorer.state(),
            "before": self.before,
        }
        self._done, self._state_when_done, self._metrics_when_done = step, json.dumps(state), metrics

    def _position(self) -> dict[str, int]:
        """In the data, with the rows left out up to there."""
        if self._stream is not None:
            return dict(self._stream.position)
        return {"item": 0, "row": 0, **(self._start_position or {}), **self._left_out()}

    def _measured(self, rollouts: Sequence[Rollout]) -> Metrics:
        """What the run itself has to say of a step."""
        figures = self._figures.of_rollouts(rollouts, failed=len(self._failed)) if rollouts else {}
        if rollouts:
            reissued = getattr(self.rollout, "take_reissued", None)  # only a group of engines can lose one and go on
            figures["rollout/reissued"] = 0.0 if reissued is None else float(reissued())
            figures |= self._scorer.metrics(rollouts)
        position = self._position()
        figures |= {f"data/{name}": float(position[name]) for name in ("dropped", "cut")}
        figures["data/bad_rows"] = float(getattr(self.dataset, "bad_rows", 0))  # a plugin's data set may not count them
        return figures | self._saves.metrics() | self._figures.of_time() | {"tokens/seen": float(self._tokens_seen)}

    def _trained_roles(self) -> list[str]:
        return [role for role, spec in self.plan.specs.items() if spec.optimizer is not None]
