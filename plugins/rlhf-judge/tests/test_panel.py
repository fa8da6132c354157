"""Several judges: how their scores combine, what their agreement is, and what happens when one is missing."""

from __future__ import annotations

import threading

import pytest
from pydantic import ValidationError

from rlhf_judge.panel import PanelConfig, PanelJudge


def panel(url, *models, **options):
    judges = [{"model": model, "base_url": url, "attempts": 1, "parse_retries": 0} for model in models]
    return PanelJudge(PanelConfig(judges=judges, **options))


def votes(**scores):
    return lambda request, number: f"So.\nScore: {scores[request['model']]}"


def test_the_mean_and_the_parts(server, rollout):
    server.reply = votes(a=1, b=3, c=3)
    built = panel(server.url, "a", "b", "c")
    (opinion,) = built.judge([rollout()])
    assert opinion.score == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert opinion.parts == {
        "score/a": 1.0,
        "score/b": 3.0,
        "score/c": 3.0,
        "judges": 3.0,
        "agreement": pytest.approx(1 / 3),
        "prompt_tokens": 300.0,
        "completion_tokens": 30.0,
    }
    assert opinion.rationale == "a: So.\n\nb: So.\n\nc: So."
    assert {name: usage.requests for name, usage in built.usage.items()} == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("scores", "score"),
    [({"a": 1, "b": 5, "c": 5}, 1.0), ({"a": 1, "b": 3, "c": 5}, 0.5), ({"a": 1, "b": 1, "c": 5}, 0.0)],
)
def test_the_majority(server, rollout, scores, score):
    server.reply = votes(**scores)
    (opinion,) = panel(server.url, "a", "b", "c", combine="majority").judge([rollout()])
    assert opinion.score == pytest.approx(score)


def test_judges_are_asked_at_the_same_time(server, rollout):
    together = threading.Barrier(3, timeout=30)

    def reply(request, number):
        together.wait()
        return "Score: 4"

    server.reply = reply
    (opinion,) = panel(server.url, "a", "b", "c").judge([rollout()])
    assert opinion.error is None


def test_a_missing_judge_is_an_error_unless_a_quorum_is_enough(server, rollout, Response):
    def reply(request, number):
        return Response(404, b"no such model") if request["model"] == "b" else "Score: 5"

    server.reply = reply
    (strict,) = panel(server.url, "a", "b", "c").judge([rollout()])
    assert strict.score is None
    assert strict.error == f"2 of 3 judges answered, 3 must: judge 'b' at {server.url}: answered 404: 'no such model'"
    (lenient,) = panel(server.url, "a", "b", "c", quorum=2).judge([rollout()])
    assert (lenient.score, lenient.parts["judges"], lenient.error) == (1.0, 2.0, None)
    assert "score/b" not in lenient.parts


def test_kappa_of_the_panel_so_far(server, rollout):
    built = panel(server.url, "a", "b")
    table = {"x": {"a": 1, "b": 1}, "y": {"a": 5, "b": 5}, "z": {"a": 1, "b": 5}}
    server.reply = lambda request, number: f"Score: {table[_answer(request)][request['model']]}"
    built.judge([rollout(answer=answer) for answer in "xy"])
    assert built.kappa == 1.0
    built.judge([rollout(answer="z")])
    assert built.kappa == pytest.approx((2 / 3 - 0.5) / 0.5)


def test_one_model_twice_has_two_names(server):
    assert list(panel(server.url, "a", "a", "b").endpoints) == ["a#1", "a#2", "b"]


def test_a_panel_has_two_judges_or_more_and_a_quorum_it_can_reach(server):
    with pytest.raises(ValidationError, match="2 judges or more, given 1"):
        panel(server.url, "a")
    with pytest.raises(ValidationError, match="quorum is 3, and the panel has 2 judges"):
        panel(server.url, "a", "b", quorum=3)


def _answer(request):
    return request["messages"][-1]["content"].split("[BEGIN ANSWER ")[1].split("]\n")[1][0]
