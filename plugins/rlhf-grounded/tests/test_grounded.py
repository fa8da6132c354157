"""The grader and the reward as a run uses them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import rlhf_grounded
from rlhf import PartConfig
from rlhf.errors import ConfigError
from rlhf.registry import Entry, Registry
from rlhf.types import Grade, Rollout
from rlhf.validation import validated
from rlhf_grounded import GroundedConfig, GroundedGrader, GroundedReward

ADA = "Ada Lovelace was born in London in 1815. She was a mathematician."
SUPPORTED, CONTRADICTED, UNKNOWN = (
    "Ada Lovelace was born in London.",
    "Ada Lovelace was born in London in 1820.",
    "Ada Lovelace played the violin.",
)


def config(**options: Any) -> GroundedConfig:
    return validated(GroundedConfig, options, "reward grounded")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("claims", "value", "score"),
    [
        ([SUPPORTED], 1, 1),
        ([SUPPORTED, UNKNOWN], 0.5, 0.5),
        ([SUPPORTED, CONTRADICTED], 0, 0),
        ([CONTRADICTED, UNKNOWN], -0.5, 0),
        ([SUPPORTED, SUPPORTED], 1, 1),
    ],
)
def test_the_share_supported_less_what_is_contradicted(ask: Any, claims: list[str], value: float, score: float) -> None:
    rollout = ask("Who was Ada?", " ".join(claims), evidence=ADA)
    assert GroundedReward(config(), None)([rollout])[0].value == value
    assert GroundedGrader(config(), None).grade([rollout])[0].score == score


def test_weights(ask: Any) -> None:
    rollout = ask("Who was Ada?", " ".join([SUPPORTED, CONTRADICTED, UNKNOWN, UNKNOWN + " Often."]), evidence=ADA)
    reward = GroundedReward(config(not_found=-0.5, contradicted=-1), None)
    (score,) = reward([ask("?", f"{SUPPORTED} {CONTRADICTED} {UNKNOWN}", evidence=ADA)])
    assert score.value == pytest.approx((1 - 1 - 0.5) / 3)
    assert reward([rollout])[0].parts["claims"] == 3


def test_parts_tell_the_shares(ask: Any) -> None:
    (score,) = GroundedReward(config(), None)([ask("?", f"{SUPPORTED} {CONTRADICTED}", evidence=ADA)])
    assert score.parts == {"claims": 2, "supported": 0.5, "contradicted": 0.5, "not_found": 0}


def test_the_rationale_names_claim_finding_reason_passage_and_source(ask: Any) -> None:
    (grade,) = GroundedGrader(config(), None).grade([ask("?", f"{SUPPORTED} {CONTRADICTED} {UNKNOWN}", evidence=ADA)])
    one, two, three = grade.rationale.splitlines()
    assert one == f"supported: {SUPPORTED!r} [column evidence: {ADA}]"
    assert two == f"contradicted: {CONTRADICTED!r} (it has '1815' in place of '1820') [column evidence: {ADA}]"
    assert three == f"not found: {UNKNOWN!r} (it lacks 'played', 'violin') [column evidence: {ADA}]"


def test_a_rationale_stays_short(ask: Any) -> None:
    endless = ask("?", "word " * 100_000 + "is here.", evidence="Words are here. " * 20)
    (grade,) = GroundedGrader(config(), None).grade([endless])
    assert len(grade.rationale) < 1000


def test_a_completion_without_claims(ask: Any) -> None:
    rollout = ask("Who was Ada?", "I do not know.", evidence=ADA)
    (score,) = GroundedReward(config(), None)([rollout])
    assert (score.value, score.error) == (None, None)
    (grade,) = GroundedGrader(config(), None).grade([rollout])
    assert (grade.score, grade.error) == (None, None)
    assert GroundedReward(config(no_claims=1), None)([rollout])[0].value == 1
    assert GroundedGrader(config(no_claims=1), None).grade([rollout])[0].score == 1


def test_hedging_is_no_way_out_where_it_is_judged(ask: Any) -> None:
    rollout = ask("Who was Ada?", "Perhaps Ada Lovelace was born in London in 1820.", evidence=ADA)
    assert GroundedReward(config(), None)([rollout])[0].value is None
    assert GroundedReward(config(judge_hedges=True), None)([rollout])[0].value == -1


def test_evidence_of_the_row(ask: Any) -> None:
    reward = GroundedReward(config(column="knowledge"), None)
    assert reward.columns == ("knowledge",)
    several = reward([ask("?", SUPPORTED, knowledge=["The Nile flows north.", ADA])])[0]
    assert several.value == 1
    assert GroundedReward(config(column="reference"), None)([ask("?", SUPPORTED, reference=ADA)])[0].value == 1


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({}, "given nothing"),
        ({"evidence": None}, "given nothing"),
        ({"evidence": 3}, "given int"),
        ({"evidence": [ADA, 3]}, "given list"),
        ({"evidence": "  "}, "is empty"),
        ({"evidence": []}, "is empty"),
    ],
)
def test_a_row_without_evidence_cannot_be_judged(ask: Any, columns: dict[str, Any], wanted: str) -> None:
    (score,) = GroundedReward(config(), None)([ask("?", SUPPORTED, **columns)])
    assert score.value is None
    assert wanted in score.error


def test_in_a_long_column_the_passage_is_found(ask: Any) -> None:
    long = " ".join(f"Planet {number} has {number} moons." for number in range(2000))
    reward = GroundedReward(config(), None)
    right, wrong = reward([ask("?", f"Planet 1234 has {moons} moons.", evidence=long) for moons in (1234, 1235)])
    assert right.value == 1
    assert wrong.value != 1


def test_neither_order_nor_company_changes_a_score(ask: Any) -> None:
    rows = [
        ask("Who was Ada?", text, evidence=ADA) for text in (SUPPORTED, "Hello!", UNKNOWN, "", CONTRADICTED, "Yes.")
    ]
    reward = GroundedReward(config(), None)
    together = reward(rows)
    assert together == [reward([row])[0] for row in rows]
    assert together == list(reversed(reward(list(reversed(rows)))))
    assert together == reward(rows)
    assert reward([]) == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"documents": "a", "column": "b"}, "given documents and column"),
        ({"colum": "b"}, "Did you mean 'column'?"),
        ({"contradicted": 0.5}, "lower contradicted"),
        ({"judge": {"score": 1}}, "judge wants the `type`"),
        ({"embeddings": "model"}, "embeddings is for documents"),
        ({"passages": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**options)
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)


def test_the_config_travels() -> None:
    options = config(documents="folder", judge="other", no_claims=1)
    assert pickle.loads(pickle.dumps(options)) == options


# --- a grader that decides in place of the rules ---------------------------------------------------------------------


class MarkConfig(PartConfig):
    word: str


class Marker:
    """Likes claims with a word of its own, and cannot judge what has `broken` in it."""

    axis = "honest"
    seen: list[Rollout] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, options: MarkConfig, parts: Any) -> None:
        self.word = options.word

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        self.seen.extend(rollouts)
        return [self._one(rollout.completion.text) for rollout in rollouts]

    def _one(self, text: str) -> Grade:
        if "broken" in text:
            return Grade(axis="honest", score=None, error="it fell silent")
        score = 1.0 if self.word in text else 0.0 if "wrong" in text else 0.5
        return Grade(axis="honest", score=score, rationale="by its looks")


@pytest.fixture
def judging(registry: Registry, parts: Any) -> Callable[..., Any]:
    registry.add(Entry("grader", "marker", Marker, MarkConfig, "test"))
    registry.add(Entry("grader", "grounded", GroundedGrader, GroundedConfig, "rlhf-grounded"))
    Marker.seen.clear()
    return lambda **options: parts.grader("grounded", {"judge": {"type": "marker", "word": "fine"}, **options})


def test_a_judge_decides_by_its_score(judging: Any, ask: Any) -> None:
    rows = [ask("Who?", f"Ada Lovelace was {what}.", evidence=ADA) for what in ("fine", "wrong", "late")]
    grades = judging(not_found=0.2, contradicted=0.1).grade(rows)
    assert [grade.score for grade in grades] == [1, 0.1, 0.2]
    assert "judged 1.00: by its looks" in grades[0].rationale


def test_a_judge_is_given_claim_and_passages(judging: Any, ask: Any) -> None:
    judging().grade([ask("Who was Ada?", "A fine woman", evidence=ADA)])
    (seen,) = Marker.seen
    assert seen.completion.text == "A fine woman"
    assert seen.prompt.reference == f"[column evidence]\n{ADA}"
    assert ADA in (seen.prompt.text or "")
    assert "Who was Ada?" in (seen.prompt.text or "")


def test_what_a_judge_cannot_judge_is_an_error(judging: Any, ask: Any) -> None:
    broken, fine = judging().grade([ask("?", f"Ada was {what} once.", evidence=ADA) for what in ("broken", "fine")])
    assert broken.score is None
    assert broken.error == "judge: it fell silent"
    assert fine.score == 1


def test_a_judge_is_not_asked_where_there_is_no_evidence(judging: Any, ask: Any) -> None:
    (grade,) = judging().grade([ask("?", "Ada was fine once.")])
    assert "given nothing" in grade.error
    assert not Marker.seen


def test_a_judge_that_nobody_registered(parts: Any) -> None:
    with pytest.raises(ConfigError, match="no grader is called 'nobody'"):
        GroundedGrader(config(judge="nobody"), parts)


# --- as a plugin -----------------------------------------------------------------------------------------------------


def test_loading_it_is_light() -> None:
    heavy = "('torch', 'transformers', 'bm25s', 'numpy', 'ray')"
    code = f"import sys, rlhf_grounded; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_registers_a_grader_and_a_reward() -> None:
    found: list[tuple[str, str]] = []
    rlhf_grounded.register_graders(lambda name, factory, *, config: found.append((name, factory.__name__)))
    rlhf_grounded.register_rewards(lambda name, factory, *, config: found.append((name, factory.__name__)))
    assert found == [("grounded", "GroundedGrader"), ("grounded", "GroundedReward")]
