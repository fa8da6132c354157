"""What becomes of rollouts that a reward failed on: as the recipe says, counted, and the first of them kept."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf.errors import RewardError
from rlhf.rewards.asking import AskedReward
from rlhf.types import Rollout, Score

FOLDER_NAME = "failed_rewards"
NOT_ASKED = "not asked: the run ends by a failure before it"
"""The error of a completion that was left unjudged, where the first failure ends the run and each costs a time-out."""
_WINDOW = 256
_ENOUGH = 32
"""Completions before which a rate says nothing."""


class Failures:
    """Of all parts of one rubric. The first failure of each is written to `folder/failed_rewards/NAME.json`."""

    def __init__(self, what: str = "reward", folder: Path | None = None) -> None:
        self._what = what
        self._folder = folder
        self._counts: Counter[str] = Counter()
        self._recent: dict[str, deque[bool]] = {}

    def met(
        self, parts: Sequence[AskedReward], rollouts: Sequence[Rollout], judged: Sequence[Mapping[str, Score]]
    ) -> list[str | None]:
        """Of each rollout, the error for which it leaves the batch. Raises `RewardError` where the run is to stop."""
        errors: list[str | None] = [None] * len(rollouts)
        for part in parts:
            rows = [row for row, scores in enumerate(judged) if part.name in scores]
            failed = [row for row in rows if judged[row][part.name].error is not None]
            self._count(part, rows, failed)
            if not failed:
                continue
            asked = [row for row in rows if judged[row][part.name].error != NOT_ASKED]
            failed = [row for row in failed if row in set(asked)]
            first = failed[0]
            kept = self._kept(part.name, rollouts[first], judged[first][part.name])
            error = f"(prompt {rollouts[first].prompt.id!r}): {judged[first][part.name].error}{kept}"
            if part.config.on_error == "raise":
                share = f"{len(failed)} of {len(asked)} completions"
                raise RewardError(f"{self._what} {part.name!r} failed on {share}, first {error}")
            self._break(part, error)
            if part.config.on_error == "drop":
                for row in failed:
                    errors[row] = errors[row] or f"{self._what} {part.name!r}: {judged[row][part.name].error}"
        return errors

    def take(self) -> dict[str, float]:
        """Failures of each part since the last time, as metrics; of parts that may fail."""
        figures = {f"{self._what}/{name}/errors": float(count) for name, count in self._counts.items()}
        self._counts.clear()
        return figures

    def state(self, part: AskedReward) -> dict[str, str]:
        """What a resumed run needs: which of the part's last completions failed, where that does not end a run."""
        if part.config.on_error == "raise":
            return {}
        return {"recent": "".join("01"[failed] for failed in self._recent.get(part.name, ()))}

    def restore(self, part: AskedReward, state: Mapping[str, str]) -> None:
        if part.config.on_error != "raise":
            self._recent[part.name] = deque((failed == "1" for failed in state["recent"]), maxlen=_WINDOW)

    def _count(self, part: AskedReward, rows: Sequence[int], failed: Sequence[int]) -> None:
        if part.config.on_error == "raise":
            return
        self._counts[part.name] += len(failed)
        recent = self._recent.setdefault(part.name, deque(maxlen=_WINDOW))
        known = set(failed)
        recent.extend(row in known for row in rows)

    def _break(self, part: AskedReward, error: str) -> None:
        """Stop a run whose reward fails too often to be a reward."""
        recent = self._recent[part.name]
        if len(recent) < _ENOUGH or sum(recent) / len(recent) <= part.config.max_error_rate:
            return
        raise RewardError(
            f"{self._what} {part.name!r} failed on {sum(recent)} of the last {len(recent)} completions, which is more "
            f"than max_error_rate {part.config.max_error_rate:g}; last {error}"
        )

    def _kept(self, name: str, rollout: Rollout, score: Score) -> str:
        """Where the first failure of this part is written, as words for an error."""
        if self._folder is None:
            return ""
        path = self._folder / FOLDER_NAME / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(_as_row(rollout, score), indent=1, ensure_ascii=False, default=repr))
        return f"; the first one and its traceback are in {path}"


def _as_row(rollout: Rollout, score: Score) -> dict[str, object]:
    prompt, completion = rollout.prompt, rollout.completion
    return {
        "error": score.error,
        "traceback": score.details.splitlines(),  # a text with line ends in it would be one long line
        "prompt": {"id": prompt.id, "messages": prompt.messages, "text": prompt.text, "reference": prompt.reference},
        "metadata": dict(prompt.metadata),
        "completion": {"text": completion.text, "finish_reason": completion.finish_reason},
    }
