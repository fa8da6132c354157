"""The `Run` an algorithm sees: data in, samples and scores, weights handed over, steps finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rlhf.data.encode import Encoder
from rlhf.errors import Interrupted, RewardError
from rlhf.plugins import Plugins
from rlhf.protocols import Algorithm, Dataset, RolloutEngine
from rlhf.runtime.checkpoints import Checkpoints, read_state
from rlhf.runtime.journal import Directive, Journal
from rlhf.runtime.plan import StagePlan, derived_seed
from rlhf.runtime.rows import RowStream, first_rows
from rlhf.runtime.scoring import Monitor, StageParts, build_rubric
from rlhf.types import LabelledBatch, Metrics, PreferenceBatch, Prompt, Rollout, ScoredBatch, TokenBatch


@dataclass(frozen=True)
class Ranks:
    """This process among those that run the same algorithm in step (Ray Train); alone elsewhere."""

    rank: int = 0
    barrier: Callable[[], None] = lambda: None
    agree: Callable[[int], int] = lambda directive: directive
    """The leading rank's number, in every rank."""


class LiveRun:
    """Implements `rlhf.protocols.Run` over engines that live anywhere."""

    def __init__(
        self,
        plan: StagePlan,
        plugins: Plugins,
        algorithm: Algorithm,
        dataset: Dataset,
        encoder: Encoder,
        engines: Mapping[str, Any],
        rollout: RolloutEngine | None,
        journal: Journal,
        *,
        ranks: Ranks | None = None,
        at_once: bool = False,
    ) -> None:
        self.plan, self.algorithm, self.dataset, self.encoder = plan, algorithm, dataset, encoder
        self.engines, self.rollout, self.journal = dict(engines), rollout, journal
        self.ranks = ranks or Ranks()
        self._threads = ThreadPoolExecutor(max_workers=8) if at_once else None
        parts = StageParts(plugins, self._reward_model_scores)
        self._rubric = build_rubric(plan.config, plugins, parts)
        self._monitor = Monitor(plan.config.monitor, parts)
        self._checkpoints = Checkpoints(plan.folder / "checkpoints", plan.config.checkpoint.keep)
        self._step, self._version, self._tokens_seen, self._ending = 0, 0, 0, False
        self._stream: RowStream[Any, Any] | None = None
        self._start_position: Mapping[str, int] | None = None
        self._failed: list[Rollout] = []
        self.before: dict[str, Any] = {}
        """What was measured on held-out rows before the first step; a resumed run has it from its checkpoint."""
        self._seconds: dict[str, float] = {}
        self._samplings = 0
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
    def reward(self) -> Any:
        return self.engines["reward"]

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Results of calls that touch different roles, at the same time where those are other processes."""
        with self._timed("train"):
            if self._threads is None:
                return [call() for call in calls]
            return [future.result() for future in [self._threads.submit(call) for call in calls]]

    # --- rows --------------------------------------------------------------------------------------------------------

    def texts(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch of documents)."""
        stream = self._open(self.dataset.texts, self.encoder.encode_text, num_rows)
        return ((step, self._counted(self.encoder.token_batch(stream.take()))) for step in self._steps())

    def demonstrations(self, num_rows: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch of demonstrations)."""
        stream = self._open(self.dataset.demonstrations, _listed(self.encoder.encode_demonstration), num_rows)
        return ((step, self._counted(self.encoder.token_batch(stream.take()))) for step in self._steps())

    def rankings(self, num_prompts: int) -> Iterator[tuple[int, PreferenceBatch]]:
        """(step, batch of rankings)."""
        stream = self._open(self.dataset.rankings, _listed(self.encoder.encode_ranking), num_prompts)
        return ((step, self._counted(self.encoder.preference_batch(stream.take()))) for step in self._steps())

    def labelled(self, num_rows: int) -> Iterator[tuple[int, LabelledBatch]]:
        """(step, batch of judged completions)."""
        stream = self._open(self.dataset.labelled, _listed(self.encoder.encode_labelled), num_rows)
        return ((step, self._counted(self.encoder.labelled_batch(stream.take()))) for step in self._steps())

    def prompts(self, num_prompts: int) -> Iterator[tuple[int, list[Prompt]]]:
        """(step, prompts)."""
        stream = self._open(self.dataset.prompts, _listed(self.encoder.encode_prompt), num_prompts)
        return ((step, stream.take()) for step in self._steps())

    def more_prompts(self, num_prompts: int) -> list[Prompt]:
        """The next prompts within the same step."""
        assert self._stream is not None
        return self._stream.take(num_prompts)

    def held_out_texts(self) -> TokenBatch | None:
        rows = self._held_out("texts", self.encoder.encode_text)
        return self.encoder.token_batch(rows) if rows else None

    def held_out_demonstrations(self) -> TokenBatch | None:
        rows = self._held_out("demonstrations", _listed(self.encoder.encode_demonstration))
        return self.encoder.token_batch(rows) if rows else None

    def held_out_rankings(self) -> PreferenceBatch | None:
        rows = self._held_out("rankings", _listed(self.encoder.encode_ranking))
        return self.encoder.preference_batch(rows) if rows else None

    def held_out_labelled(self) -> LabelledBatch | None:
        rows = self._held_out("labelled", _listed(self.encoder.encode_labelled))
        return self.encoder.labelled_batch(rows) if rows else None

    def held_out_prompts(self) -> list[Prompt]:
        return self._held_out("prompts", _listed(self.encoder.encode_prompt))

    def _held_out(self, kind: str, encode: Callable[[Any], Sequence[Any]]) -> list[Any]:
        held_out = self.dataset.held_out() if self.plan.config.held_out_rows else None
        if held_out is None or not held_out.sizes.get(kind):
            return []
        count = min(self.plan.config.held_out_rows, held_out.sizes[kind])
        return first_rows(getattr(held_out, kind)(0), count, encode)[: self.plan.config.held_out_rows]

    def _open(
        self, items: Callable[..., Iterator[Any]], encode: Callable[[Any], Sequence[Any]], batch_size: int
    ) -> RowStream[Any, Any]:
        seed = derived_seed(self.plan.seed, "data")
        self._stream = RowStream(
            lambda start: items(seed, start), encode, batch_size, self._left_out, self._start_position
        )
        return self._stream

    def _left_out(self) -> dict[str, int]:
        return {"dropped": self.encoder.dropped, "cut": self.encoder.cut}

    def _steps(self) -> Iterator[int]:
        while self._step < self.plan.num_steps and not self._ending:
            self._step += 1
            self._step_started, self._seconds, self._samplings, self._failed = time.monotonic(), {}, 0, []
            yield self._step

    def _counted(self, batch: Any) -> Any:
        self._tokens_seen += int(batch.inputs.attention_mask.sum())
        return batch

    # --- rollouts ----------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[Prompt], num_samples: int, *, greedy: bool = False) -> list[Rollout]:
        """Completions of the current policy; the same for the same seed, step, call and prompt."""
        assert self.rollout is not None
        again = (self._samplings,) if self._samplings else ()
        self._samplings += 1
        seed = derived_seed(self.plan.seed, "sample", self._step, *again)
        sampling = self.plan.config.rollout.sampling(num_samples, seed, self.encoder.stop_ids)
        if greedy:
            sampling = replace(sampling, temperature=0.0)
        with self._timed("generate"):
            groups = self.rollout.generate(prompts, sampling)
        pairs = zip(prompts, groups, strict=True)
        return [Rollout(prompt=prompt, completion=completion) for prompt, group in pairs for completion in group]

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with rewards, without those whose reward failed."""
        with self._timed("score"):
            scored = self._rubric.score(rollouts)
        failed = [rollout for rollout in scored if rollout.error is not None]
        if len(failed) == len(scored):
            raise RewardError(f"the reward failed on every completion of step {self._step}: {failed[0].error}")
        self._failed += failed
        return [rollout for rollout in scored if rollout.error is None]

    def collate(self, rollouts: Sequence[Rollout]) -> ScoredBatch:
        """Rollouts as token rows."""
        batch = self._counted(self.encoder.rollout_batch(rollouts))
        sampled = torch.zeros(batch.tokens.shape, dtype=torch.float32)
        for row, rollout in enumerate(rollouts):
            sampled[row, batch.response_mask[row]] = torch.tensor(rollout.completion.logprobs, dtype=torch.float32)
        groups: dict[str, int] = {}
        return ScoredBatch(
            tokens=batch.tokens,
            attention_mask=batch.attention_mask,
            response_mask=batch.response_mask,
            sampled_logprobs=sampled,
            scores_B=torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float32),
            truncated_B=torch.tensor([rollout.completion.finish_reason == "length" for rollout in rollouts]),
            group_B=torch.tensor([groups.setdefault(rollout.prompt.id, len(groups)) for rollout in rollouts]),
        )

    def _reward_model_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        scores: list[float] = self.reward.forward(self.encoder.rollout_batch(rollouts)).scores_B.tolist()
        return scores

    def publish_weights(self) -> None:
        """Hand the policy's weights to the rollout engine under the next version."""
        assert self.rollout is not None
        self._version += 1
        with self._timed("sync"):
            self.rollout.load_weights(self.policy.weights(), self._version)

    # --- steps -------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say it once, however many ranks run the algorithm."""
        if self.ranks.rank == 0:
            self.journal.note(text)

    def finish_step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout] = ()) -> None:
        """Log the step, save when due, and leave when asked to."""
        everything = dict(metrics) | self._rollout_metrics(rollouts) | self._run_metrics()
        every = self.plan.config.checkpoint.every
        if every and step % every == 0 and step < self.plan.num_steps:
            self._save(step)
        directive = Directive.GO_ON
        if self.ranks.rank == 0:
            directive = self.journal.step(step, everything, [*rollouts, *self._failed])
        self._failed = []
        directive = Directive(self.ranks.agree(directive))
        if directive is Directive.INTERRUPT and step < self.plan.num_steps:
            path = self._save(step)
            raise Interrupted(f"stopped after step {step} of stage {self.plan.name!r}; saved in {path}")
        self._ending = self._ending or directive is Directive.END

    def resume(self) -> int:
        """Take up the newest checkpoint, if there is one; returns the steps already done."""
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return 0
        state = read_state(checkpoint)
        for role in self._trained_roles():
            self.engines[role].load(checkpoint / role)
        self.algorithm.restore(state["algorithm"])
        self._step, self._version, self._tokens_seen = state["step"], state["version"], state["tokens_seen"]
        self._start_position, self.before = state["position"], state["before"]
        self.encoder.dropped, self.encoder.cut = state["position"]["dropped"], state["position"]["cut"]
        if self.rollout is not None:
            self.rollout.load_weights(self.policy.weights(), self._version)
        return self._step

    @property
    def step(self) -> int:
        """Steps done, the current one included."""
        return self._step

    def close(self) -> None:
        """Let go the threads that spoke to other processes."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

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
            "before": self.before,
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
        rewards = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
        figures: Metrics = {
            "reward/mean": float(rewards.mean()),
            "reward/std": float(rewards.std(unbiased=False)),
            "reward/failed": float(len(self._failed)),
            "rollout/length": sum(lengths) / len(lengths),
            "rollout/truncated": sum(r.completion.finish_reason == "length" for r in rollouts) / len(rollouts),
        }
        if len(self._rubric.parts) > 1:
            for part in self._rubric.parts:
                values = [r.reward_parts[part.name] for r in rollouts if part.name in r.reward_parts]
                if values:
                    figures[f"reward/{part.name}"] = sum(values) / len(values)
        return figures | self._monitor.metrics(rollouts)

    def _run_metrics(self) -> Metrics:
        figures = {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        figures["time/step"] = time.monotonic() - self._step_started
        figures["tokens/seen"] = float(self._tokens_seen)
        left_out = self._stream.position if self._stream is not None else self._left_out()
        return figures | {f"data/{name}": float(left_out[name]) for name in ("dropped", "cut")}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - start


def _listed(encode: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """An encoder of one row at most, as one of a list of rows."""

    def listed(item: Any) -> list[Any]:
        row = encode(item)
        return [] if row is None else [row]

    return listed
