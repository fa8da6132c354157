"""samples.jsonl: a few rollouts of each step, to read what the policy says while its figures rise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.tracking.step_lines import StepLines, finite, read_step_lines
from rlhf.types import Prompt, Rollout


class SamplesFile:
    """Keeps `per_step` rollouts of each step, evenly spread over the batch.

    Samples of one prompt stand next to each other in a batch, so the first few would all answer the same prompt.
    """

    def __init__(self, path: Path, first_step: int = 0, *, per_step: int = 8) -> None:
        self._lines = StepLines(path, first_step)
        self._per_step = per_step

    def log(self, step: int, rollouts: Sequence[Rollout]) -> None:
        count = min(self._per_step, len(rollouts))
        for i in range(count):
            self._lines.append(sample_row(step, rollouts[i * len(rollouts) // count]))


def sample_row(step: int, rollout: Rollout) -> dict[str, Any]:
    """One line of the file. `logprob` is the sum over the completion's tokens, in nats."""
    completion = rollout.completion
    return {
        "step": step,
        "prompt_id": rollout.prompt.id,
        "prompt": prompt_text(rollout.prompt),
        "completion": completion.text,
        "reward": finite(rollout.reward),
        "reward_parts": {name: finite(part) for name, part in rollout.reward_parts.items()},
        "finish_reason": completion.finish_reason,
        "error": rollout.error,
        "num_tokens": len(completion.token_ids),
        "logprob": finite(sum(completion.logprobs)),
        "policy_version": completion.policy_version,
    }


def prompt_text(prompt: Prompt) -> str:
    """A lone user turn as it is; a longer conversation with its roles."""
    turns = prompt.messages
    if turns is None or (len(turns) == 1 and turns[0]["role"] == "user"):
        return prompt.last_user_text
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The rows of a samples.jsonl, without a cut last line. Raises `DataError` on any other broken line."""
    return read_step_lines(path)
