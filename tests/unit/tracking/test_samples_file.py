"""samples.jsonl: a spread of rollouts each step, with everything needed to judge them."""

from __future__ import annotations

from pathlib import Path

from rlhf.tracking.samples_file import SamplesFile, prompt_text, read_samples
from rlhf.types import Completion, Prompt, Rollout


def rollout(i: int, **changes: object) -> Rollout:
    fields = {
        "prompt": Prompt(id=f"p{i}", messages=({"role": "user", "content": f"question {i}"},)),
        "completion": Completion(
            token_ids=(1, 2), logprobs=(-0.5, -0.25), text=f"answer {i}", finish_reason="stop", policy_version=3
        ),
        "reward": float(i),
        "reward_parts": {"style": float("nan")},
    }
    return Rollout(**(fields | changes))  # type: ignore[arg-type]


def test_keeps_a_spread_over_the_batch(tmp_path: Path) -> None:
    sink = SamplesFile(tmp_path / "samples.jsonl", per_step=4)
    sink.log(1, [rollout(i) for i in range(10)])
    sink.log(2, [rollout(0)])
    rows = read_samples(tmp_path / "samples.jsonl")
    assert [(row["step"], row["prompt_id"]) for row in rows] == [
        (1, "p0"), (1, "p2"), (1, "p5"), (1, "p7"), (2, "p0"),
    ]  # fmt: skip


def test_a_row_tells_the_whole_story(tmp_path: Path) -> None:
    sink = SamplesFile(tmp_path / "samples.jsonl")
    sink.log(7, [rollout(1), rollout(2, reward=None, error="judge timed out")])
    good, failed = read_samples(tmp_path / "samples.jsonl")
    assert good == {
        "step": 7,
        "prompt_id": "p1",
        "prompt": "question 1",
        "completion": "answer 1",
        "reward": 1.0,
        "reward_parts": {"style": None},
        "finish_reason": "stop",
        "error": None,
        "num_tokens": 2,
        "logprob": -0.75,
        "policy_version": 3,
    }
    assert (failed["reward"], failed["error"]) == (None, "judge timed out")


def test_any_text_survives_the_round_trip(tmp_path: Path) -> None:
    text = 'line\nbreak \u2028 "quotes" \x00 Grüße 漢字 \ud800 end'
    completion = Completion(token_ids=(), logprobs=(), text=text, finish_reason="length")
    SamplesFile(tmp_path / "samples.jsonl").log(1, [rollout(1, completion=completion)])
    assert read_samples(tmp_path / "samples.jsonl")[0]["completion"] == text


def test_resume_drops_the_samples_it_will_write_again(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first = SamplesFile(path)
    first.log(1, [rollout(1)])
    first.log(2, [rollout(2)])
    SamplesFile(path, first_step=2).log(2, [rollout(9)])
    assert [row["prompt_id"] for row in read_samples(path)] == ["p1", "p9"]


def test_conversations_keep_their_roles() -> None:
    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "bye"},
    )
    assert prompt_text(Prompt(id="1", messages=turns)) == "user: hi\nassistant: hello\nuser: bye"  # type: ignore[arg-type]
    assert prompt_text(Prompt(id="2", text="once upon")) == "once upon"
