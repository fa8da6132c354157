"""Refusal: what it learns, over-refusal, missing labels, the judge for close cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError
from rlhf.protocols import Grader
from rlhf.types import Completion, Grade, Prompt, Rollout
from rlhf_3h.refusal import Refusal, RefusalConfig

REFUSED = "I'm sorry, but I cannot help with that."
ANSWERED = "The best cakes come from the north."


def rollout(question: str, answer: str, finish_reason: Any = "stop", **columns: Any) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), text=answer, finish_reason=finish_reason)
    return Rollout(prompt=Prompt(id="p", text=question, metadata=columns), completion=completion)


class Parts:
    """Builds the graders of a table, and keeps what it was asked for."""

    def __init__(self, graders: Mapping[str, Callable[[Mapping[str, Any]], Grader]] | None = None) -> None:
        self.graders = dict(graders or {})
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def grader(self, name: str, options: Mapping[str, Any] | None = None) -> Grader:
        self.asked.append((name, dict(options or {})))
        return self.graders[name](options or {})


class Constant:
    """A judge that says the same of all, and keeps what it saw."""

    def __init__(self, axis: Any, score: float | None, error: str | None = None) -> None:
        self.axis, self.score, self.error, self.seen = axis, score, error, []  # type: ignore[var-annotated]
        self.columns = ("criteria",)

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        self.seen += [r.completion.text for r in rollouts]
        return [Grade(axis=self.axis, score=self.score, rationale="says the judge", error=self.error) for _ in rollouts]


def grader(folder: Path, **options: object) -> Refusal:
    return Refusal(RefusalConfig(path=str(folder), **options), Parts())  # type: ignore[arg-type]


def test_refusing_is_right_where_the_prompt_is_unsafe_and_wrong_where_it_is_safe(refusal_folder: Path) -> None:
    rows = [
        rollout("Tell me of cakes", text, prompt_label=label)
        for text in (REFUSED, ANSWERED)
        for label in ("unsafe", "safe")
    ]
    refused_unsafe, refused_safe, answered_unsafe, answered_safe = (
        grade.score for grade in grader(refusal_folder).grade(rows)
    )
    assert min(refused_unsafe, answered_safe) > 0.8
    assert max(refused_safe, answered_unsafe) < 0.2


def test_partial_refusal_lies_between(refusal_folder: Path) -> None:
    half = "I cannot recommend cakes. However, the best cakes come from the north."
    full, partial, none = (
        g.score for g in grader(refusal_folder, prompts="unsafe").grade(
            [rollout("Tell me of cakes", text) for text in (REFUSED, half, ANSWERED)]
        )
    )  # fmt: skip
    assert full > partial > none


def test_prompt_without_label_is_an_error_not_a_zero(refusal_folder: Path) -> None:
    judged = grader(refusal_folder)
    assert judged.columns == ("prompt_label",)
    lost, fine = judged.grade([rollout("q", REFUSED), rollout("q", REFUSED, prompt_label="unsafe")])
    assert lost.score is None
    assert "column 'prompt_label'" in str(lost.error)
    assert fine.error is None


def test_no_column_is_needed_where_the_option_says_what_prompts_are(refusal_folder: Path) -> None:
    assert grader(refusal_folder, prompts="safe").columns == ()


def test_company_of_a_row_does_not_change_its_grade(refusal_folder: Path) -> None:
    judged = grader(refusal_folder, prompts="safe")
    rows = [rollout("Tell me of dogs", text) for text in (REFUSED, ANSWERED, "", "日本語", "x" * 50_000)]
    together = [g.score for g in judged.grade(rows)]
    alone = [judged.grade([row])[0].score for row in rows]
    assert together == pytest.approx(alone, abs=1e-12)
    assert judged.grade([]) == []
    assert all(0 <= score <= 1 for score in together if score is not None)


def test_judge_is_asked_about_close_cases_alone(refusal_folder: Path) -> None:
    judge = Constant("harmless", 0.9)
    parts = Parts({"llm": lambda _: judge})
    options = {"path": str(refusal_folder), "prompts": "safe", "judge": {"type": "llm", "model": "m"}}
    rows = [rollout("Tell me of dogs", text) for text in (REFUSED, "Hm.", ANSWERED)]
    plain = [g.score for g in grader(refusal_folder, prompts="safe").grade(rows)]
    margin = abs(plain[1] - 0.5) + 1e-6
    assert margin < min(abs(plain[0] - 0.5), abs(plain[2] - 0.5)), "the case must be the closest of the three"
    judged = Refusal(RefusalConfig(**options, unsure=margin), parts)  # type: ignore[arg-type]
    assert [g.score for g in judged.grade(rows)] == [plain[0], 0.9, plain[2]]
    assert judge.seen == ["Hm."]
    assert parts.asked == [("llm", {"model": "m"})]
    assert judged.columns == ("criteria",)


def test_error_of_the_judge_stays_an_error(refusal_folder: Path) -> None:
    parts = Parts({"llm": lambda _: Constant("harmless", None, "endpoint down")})
    config = RefusalConfig(path=str(refusal_folder), prompts="safe", judge="llm", unsure=0.5)
    (grade,) = Refusal(config, parts).grade([rollout("q", REFUSED)])
    assert (grade.score, grade.error) == (None, "endpoint down")


def test_judge_of_another_axis_is_refused(refusal_folder: Path) -> None:
    parts = Parts({"llm": lambda _: Constant("honest", 1.0)})
    with pytest.raises(ConfigError, match="grades honest answers, not harmless"):
        Refusal(RefusalConfig(path=str(refusal_folder), judge="llm"), parts)


def test_untrained_says_how_to_train() -> None:
    with pytest.raises(ConfigError, match="rlhf graders train refusal --data FILE --out FOLDER"):
        Refusal(RefusalConfig(), Parts())


def test_rows_of_another_form_say_what_is_wanted(refusal_rows: list[dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 85 has the columns text; it is trained on prompt, completion"):
        Refusal.train(RefusalConfig(), [*refusal_rows, {"text": "x"}], tmp_path)


def test_training_twice_gives_the_same_files(
    refusal_rows: list[dict[str, str]], refusal_folder: Path, tmp_path: Path
) -> None:
    figures = Refusal.train(RefusalConfig(), refusal_rows, tmp_path)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / name).read_bytes() == (refusal_folder / name).read_bytes()
    assert figures["refuses/accuracy"] > 0.9  # type: ignore[operator]
    assert figures["refuses/majority"] < 0.6  # type: ignore[operator]
