"""Asking one reward: its answers checked, rows that failed tried again, and what is known not asked for twice."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlhf.config import RewardPart
from rlhf.protocols import RewardFn
from rlhf.rewards.answers import batch_scores, faulty
from rlhf.rewards.row_calls import Event, ends_the_run, failed, finished
from rlhf.types import Rollout, Score

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_MOST_REMEMBERED = 100_000
_jitter = random.Random()  # of its own, so that it moves no seeded generator


def answered(reward: RewardFn, rollouts: Sequence[Rollout]) -> Iterator[Event]:
    """Rows as they are begun and judged. Whatever a reward raises, or gives in place of scores, is an error of rows."""
    if not rollouts:
        return
    unjudged = set(range(len(rollouts)))
    try:
        for row, score in _events(reward, rollouts):
            if score is not None:
                unjudged.discard(row)
            yield row, score
    except (Exception, SystemExit) as error:
        if ends_the_run(error):
            raise
        yield from ((row, failed(error)) for row in sorted(unjudged))


def _events(reward: RewardFn, rollouts: Sequence[Rollout]) -> Iterator[Event]:
    stream = getattr(reward, "stream", None)
    if stream is not None:
        yield from stream(rollouts)
        return
    yield from ((row, None) for row in range(len(rollouts)))
    yield from enumerate(batch_scores(reward(rollouts), len(rollouts)))


class AskedReward:
    """A reward as a recipe names it: one `Score` a rollout, whatever happens, in order."""

    def __init__(self, name: str, reward: RewardFn, config: RewardPart) -> None:
        self.name, self.config = name, config
        self.reward = reward
        self._known: OrderedDict[str, Score] = OrderedDict()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Only a dead worker and mistakes in the recipe are raised."""
        if not self.config.cache:
            return self._tried(rollouts)
        keys = [_key(rollout) for rollout in rollouts]
        new = {key: rollout for key, rollout in zip(keys, rollouts, strict=True) if key not in self._known}
        answers = dict(zip(new, self._tried(list(new.values())), strict=True))
        scores = [answers[key] if key in answers else self._known[key] for key in keys]
        self._known |= {key: score for key, score in answers.items() if score.error is None}
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return scores

    def _tried(self, rollouts: Sequence[Rollout]) -> list[Score]:
        scores = self._checked(rollouts)
        for attempt in range(self.config.retries):
            again = [row for row, score in enumerate(scores) if score.error is not None]
            if not again:
                break
            # Full jitter: those who were turned away at the same time do not come back at the same time.
            time.sleep(_jitter.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)))
            for row, score in zip(again, self._checked([rollouts[row] for row in again]), strict=True):
                scores[row] = score
        return scores

    def _checked(self, rollouts: Sequence[Rollout]) -> list[Score]:
        scores = finished(answered(self.reward, rollouts), len(rollouts))
        return [faulty(score, self.config.range) for score in scores]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs: what `cache` keeps, for a judge may say something else next time."""
        if not self.config.cache:
            return {}
        return {"known": {key: {"value": s.value, "parts": dict(s.parts)} for key, s in self._known.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        if self.config.cache:
            told = state["known"].items()
            self._known = OrderedDict((key, Score(value=s["value"], parts=s["parts"])) for key, s in told)

    def close(self) -> None:
        """Let go of the processes it runs in."""
        close = getattr(self.reward, "close", None)
        if close is not None:
            close()


def _key(rollout: Rollout) -> str:
    """What decides an answer."""
    prompt = rollout.prompt
    told = [prompt.messages, prompt.text, prompt.reference, dict(prompt.metadata), rollout.completion.text]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=repr).encode()).hexdigest()
