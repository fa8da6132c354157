"""Comparing two answers: both orders, contradictions, the lean towards one place, references and groups."""

from __future__ import annotations

import re

import pytest

from rlhf_judge.pairs import LabelledPair, by_grader, longer, pair_agreement, read_pairs
from rlhf_judge.pairwise import Pair, PairwiseConfig, PairwiseJudge


def judge(url, **options):
    return PairwiseJudge(PairwiseConfig(model="m", base_url=url, requests_at_once=1, **options))


def shown(request):
    """The two answers, as they were shown."""
    content = request["messages"][-1]["content"]
    fence = r"\[BEGIN ANSWER {0} (\w+)\]\n(.*?)\n\[END ANSWER {0} \1\]"
    return tuple(re.search(fence.format(number), content, re.DOTALL)[2] for number in (1, 2))


def prefers(better):
    """A judge with a taste: `better(first, second)` is "1", "2" or "tie"."""
    return lambda request, number: f"Because.\nBetter: {better(*shown(request))}"


def longest(first, second):
    return "tie" if len(first) == len(second) else "1" if len(first) > len(second) else "2"


PAIR = Pair(conversation="Hi", first="long answer", second="short")


def test_both_orders_are_asked(server):
    server.reply = prefers(longest)
    (verdict,) = judge(server.url).compare([PAIR])
    assert [shown(request) for request in server.requests] == [("long answer", "short"), ("short", "long answer")]
    assert (verdict.winner, verdict.contradicted, verdict.shown_first) == ("first", False, 0.5)
    assert verdict.rationale == "Because."
    assert (verdict.usage.requests, verdict.usage.prompt_tokens) == (2, 200)


@pytest.mark.parametrize(
    ("taste", "winner", "contradicted", "shown_first"),
    [
        (lambda a, b: "1", "tie", True, 1.0),
        (lambda a, b: "2", "tie", True, 0.0),
        (lambda a, b: "tie", "tie", False, 0.5),
        (lambda a, b: "1" if a == "long answer" else "tie", "tie", False, 0.75),
        (lambda a, b: longest(b, a), "second", False, 0.5),
    ],
)
def test_a_winner_wins_in_both_orders(server, taste, winner, contradicted, shown_first):
    server.reply = prefers(taste)
    (verdict,) = judge(server.url).compare([PAIR])
    assert (verdict.winner, verdict.contradicted, verdict.shown_first) == (winner, contradicted, shown_first)


def test_equal_answers_are_a_tie_without_asking(server):
    (verdict,) = judge(server.url).compare([Pair(conversation="Hi", first="a", second="a")])
    assert (verdict.winner, server.requests) == ("tie", [])


def test_a_reference_for_the_judges_eyes(server):
    server.reply = prefers(longest)
    judge(server.url).compare([Pair(conversation="Hi", first="long answer", second="short", reference="Hello!"), PAIR])
    asked = server.texts()
    assert [text.count("]\nHello!\n[END REFERENCE ") for text in asked] == [1, 1, 0, 0]
    assert "{reference}" not in "".join(asked)


def test_one_order_that_fails_is_an_error(server):
    server.reply = lambda request, number: "Better: 1" if number == 0 else "I cannot say."
    (verdict,) = judge(server.url).compare([PAIR])
    assert verdict.winner is None
    assert "does not end with a line `Better: ...`: 'I cannot say.'" in verdict.error


def test_against_the_reference(server, rollout):
    server.reply = prefers(longest)
    built = judge(server.url)
    assert built.columns == ("reference",)
    rows = [
        rollout(answer="much longer", reference="short"),
        rollout(answer="s", reference="longer"),
        rollout(answer="same", reference="same"),
        rollout(answer="alone"),
    ]
    win, loss, tie, missing = built.judge(rows)
    assert [win.score, loss.score, tie.score, missing.score] == [1.0, 0.0, 0.5, None]
    assert missing.error == "prompt 'p0' has no reference to compare with"
    assert win.parts == {
        "contradicted": 0.0,
        "shown_first": 0.5,
        "opponents": 1.0,
        "prompt_tokens": 200.0,
        "completion_tokens": 20.0,
    }


def test_a_judge_that_leans_shows_in_the_parts(server, rollout):
    server.reply = lambda request, number: "Better: 1"
    (opinion,) = judge(server.url).judge([rollout(answer="a", reference="b")])
    assert (opinion.score, opinion.parts["contradicted"], opinion.parts["shown_first"]) == (0.5, 1.0, 1.0)


def test_against_the_other_samples_of_the_prompt(server, rollout):
    server.reply = prefers(longest)
    built = judge(server.url, against="samples")
    assert built.columns == ()
    rows = [
        rollout(id="a", answer="1"),
        rollout(id="b", answer="22"),
        rollout(id="a", answer="333"),
        rollout(id="a", answer="22"),
        rollout(id="b", answer="1"),
        rollout(id="c", answer="only one"),
        rollout(id="a", answer="22"),
    ]
    opinions = built.judge(rows)
    assert [o.score for o in opinions] == [0.0, 1.0, 1.0, 0.5, 0.0, None, 0.5]
    assert [o.parts.get("opponents") for o in opinions] == [3.0, 1.0, 3.0, 3.0, 1.0, None, 3.0]
    assert "no other sample to compare with" in opinions[5].error
    assert len(server.requests) == 2 * (5 + 1)  # six pairs of `a`, one of them equal, and one of `b`
    again = built.judge(rows[::-1])
    assert [o.score for o in again] == [o.score for o in opinions][::-1]


def test_a_failed_comparison_is_an_error_of_both(server, rollout):
    server.reply = lambda request, number: "?" if set(shown(request)) == {"1", "22"} else "Better: tie"
    rows = [rollout(answer=answer) for answer in ("1", "22", "333", "4444")]
    opinions = judge(server.url, against="samples").judge(rows)
    assert [o.error is None for o in opinions] == [False, False, True, True]


def test_json_choices(server):
    server.reply = lambda request, number: f'{{"reason": "so", "better": "{number + 1}"}}'
    (verdict,) = judge(server.url, verdict="json").compare([PAIR])
    assert (verdict.winner, verdict.rationale) == ("first", "so")
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["better"]["enum"] == ["1", "2", "tie"]


# --- agreement with people -------------------------------------------------------------------------------------------


def labelled(winner):
    return LabelledPair(pair=PAIR, winner=winner)


def test_agreement_counts_ties_half_and_errors_apart(server):
    rows = [labelled("first"), labelled("second"), labelled("tie")]
    server.reply = prefers(longest)
    found = pair_agreement(rows, judge(server.url).compare)
    assert (found.accuracy, found.pairs, found.ties, found.errors) == (0.5, 2, 0, 0)
    assert found.low == pytest.approx(0.0945, abs=1e-4)  # Wilson's interval of 1 in 2
    assert found.high == pytest.approx(0.9055, abs=1e-4)
    server.reply = lambda request, number: "Better: 1"
    leaning = pair_agreement(rows, judge(server.url).compare)
    assert (leaning.accuracy, leaning.ties, leaning.contradicted, leaning.shown_first) == (0.5, 2, 1.0, 1.0)
    flaky = judge(server.url, parse_retries=0)
    server.requests.clear()
    server.reply = lambda request, number: "?" if number == 0 else prefers(longest)(request, number)
    half = pair_agreement(rows, flaky.compare)
    assert (half.accuracy, half.pairs, half.errors) == (0.0, 1, 1)


@pytest.mark.parametrize(("name", "rows"), [("hhh_alignment", 221), ("llmbar_pairs", 495)])
def test_public_pairs_with_a_judge_that_knows_and_one_that_does_not(server, data_dir, name, rows):
    pairs = read_pairs(data_dir / "judge" / f"{name}.jsonl")
    assert len(pairs) == rows
    some = [row for row in pairs if row.winner != "tie"][:30]
    better = {(p.pair.first, p.pair.second): p.winner == "first" for p in some}
    better |= {(second, first): not wins for (first, second), wins in better.items()}
    server.reply = prefers(lambda a, b: "1" if better[a, b] else "2")
    found = pair_agreement(some, judge(server.url).compare)
    assert (found.accuracy, found.errors, found.contradicted) == (1.0, 0, 0.0)
    by_length = pair_agreement(pairs, longer)
    assert by_length.pairs == rows
    assert 0.3 < by_length.accuracy < 0.7


@pytest.mark.parametrize("name", ["autoj_pairwise", "pandalm_testset"])
def test_other_public_pairs(data_dir, name):
    pairs = read_pairs(data_dir / "judge" / f"{name}.jsonl")
    winners = {row.winner for row in pairs}
    assert winners == {"first", "second", "tie"}


def test_any_grader_is_a_judge_of_pairs(server):
    from rlhf_judge.opinion import JudgeGrader
    from rlhf_judge.pointwise import JudgeConfig, PointwiseJudge

    grader = JudgeGrader(PointwiseJudge(JudgeConfig(model="m", base_url=server.url)), "helpful")
    server.reply = lambda request, number: f"Score: {4 if 'long answer' in request['messages'][-1]['content'] else 2}"
    found = pair_agreement([labelled("first"), labelled("second")], by_grader(grader))
    assert (found.accuracy, found.ties) == (0.5, 0)
