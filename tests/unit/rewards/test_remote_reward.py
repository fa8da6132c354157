"""`remote` against a real HTTP server on this machine: what is sent, and what is made of every kind of answer."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.errors import ConfigError
from rlhf.types import Message, Score
from tests.unit.rewards.scoring_service import Handler, Service, says, scores_lengths, serving

# --- what is sent ----------------------------------------------------------------------------------------------------


def test_version_1_carries_the_rows_and_nothing_that_was_not_named(build: Any, rollout: Any) -> None:
    chat = [Message(role="user", content="Wo?")]
    rows = [
        rollout("Rom", "Rom", {"level": 3, "private": "x"}, messages=chat, id="a"),
        rollout("", None, {"private": "x"}, id="b"),
    ]
    with serving(scores_lengths) as service:
        reward = build("remote", url=service.url + "?model=a%20b", metadata=["level"])
        assert reward(rows) == [Score(value=3.0), Score(value=0.0)]
        assert reward.columns == ("level",)
    assert service.bodies == [
        {
            "version": 1,
            "ids": ["a", "b"],
            "prompts": [[{"role": "user", "content": "Wo?"}], "?"],
            "completions": ["Rom", ""],
            "finish_reasons": ["stop", "stop"],
            "references": ["Rom", None],
            "metadata": [{"level": 3}, {"level": None}],
        }
    ]
    assert service.paths == ["/score?model=a%20b"]
    assert service.headers[0]["Content-Type"] == "application/json"
    assert "Authorization" not in service.headers[0]


def test_the_page_shows_what_is_sent_and_a_service_that_answers(build: Any, rollout: Any, repo_root: Path) -> None:
    pytest.importorskip("fastapi", reason="the page's service is written with fastapi (extra `serve`)")
    page = (repo_root / "docs" / "rewards.md").read_text(encoding="utf-8").partition("# `remote`")[2]
    request, answer = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)

    class Asked:
        async def json(self) -> Any:
            return request

    (turns,) = request["prompts"]
    row = rollout("4", "4", {"difficulty": 1}, messages=turns, id="rows.jsonl:17")
    replies = [says(answer), says(asyncio.run(names["score"](Asked())))]
    with serving(*replies) as service:
        reward = build("remote", url=service.url, metadata=["difficulty"])
        assert reward([row]) == [Score(value=0.75, parts={"style": 0.5, "facts": 1.0})]
        assert reward([row]) == [Score(value=1.0)]
    assert service.bodies == [request, request]


def test_rows_go_in_batches_and_come_back_in_order(build: Any, rollout: Any) -> None:
    rows = [rollout("x" * n) for n in range(10)]
    with serving(scores_lengths) as service:
        answers = build("remote", url=service.url, batch_size=4)(rows)
    assert [answer.value for answer in answers] == list(range(10))
    assert sorted(len(body["completions"]) for body in service.bodies) == [2, 4, 4]


def test_no_rows_ask_nothing(build: Any) -> None:
    with serving(scores_lengths) as service:
        assert build("remote", url=service.url)([]) == []
    assert service.bodies == []


@given(texts=st.lists(st.text(), max_size=6), size=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_batch_changes_a_score(build: Any, rollout: Any, texts: list[str], size: int) -> None:
    rows = [rollout(text) for text in texts]
    with serving(scores_lengths) as service:
        together = build("remote", url=service.url)(rows)
        apart = build("remote", url=service.url, batch_size=size)(rows[::-1])
    assert together == apart[::-1] == [Score(value=float(len(text))) for text in texts]


def test_requests_are_made_at_once_but_not_more_than_allowed(build: Any, rollout: Any) -> None:
    def slowly(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.1)
        scores_lengths(handler, body)

    with serving(slowly) as service:
        reward = build("remote", url=service.url, batch_size=1, parallel_requests=3)
        answers = reward([rollout("x" * n) for n in range(9)])
    assert [answer.value for answer in answers] == list(range(9))
    assert service.most_at_once == 3


def test_what_is_not_json_is_not_sent_and_the_rest_is(build: Any, rollout: Any) -> None:
    rows = [rollout("a", None, {"x": b"raw"}), rollout("bc", None, {"x": 1}), rollout("d", None, {"x": float("nan")})]
    with serving(scores_lengths) as service:
        first, second, third = build("remote", url=service.url, metadata=["x"])(rows)
    assert second == Score(value=2.0)
    assert first.error == "row 'r7' cannot be sent: Object of type bytes is not JSON serializable"
    assert third.error is not None
    assert "cannot be sent: Out of range float values are not JSON compliant" in third.error
    assert [body["completions"] for body in service.bodies] == [["bc"]]


def test_half_a_character_is_sent_as_json_can(build: Any, rollout: Any) -> None:
    with serving(scores_lengths) as service:
        assert build("remote", url=service.url)([rollout("a\ud83d")]) == [Score(value=2.0)]
    assert service.bodies[0]["completions"] == ["a\ud83d"]


# --- OpenRLHF --------------------------------------------------------------------------------------------------------


def get_reward(handler: Handler, body: dict[str, Any]) -> None:
    """Answers as openrlhf.cli.serve_rm does."""
    rewards = [float(len(query)) for query in body["query"]]
    content = {"rewards": rewards, "scores": rewards, "extra_logs": {"length": rewards, "note": "x", "short": [1]}}
    handler.answer(json.dumps(content).encode())


def test_openrlhf_is_sent_queries_prompts_and_labels(build: Any, rollout: Any) -> None:
    with serving(get_reward) as service:
        answers = build("remote", url=service.url, protocol="openrlhf")([rollout(" 4", "4"), rollout("")])
    assert answers == [Score(value=3.0, parts={"length": 3.0}), Score(value=1.0, parts={"length": 1.0})]
    assert service.bodies == [{"query": ["? 4", "?"], "prompts": ["?", "?"], "labels": ["4", ""]}]


def test_openrlhf_reads_a_conversation_as_its_tokenizer_writes_it(
    build: Any, rollout: Any, fault: Any, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    row = rollout("Rom", messages=[Message(role="user", content="Wo?")])
    with serving(get_reward) as service:
        complaint = fault(build("remote", url=service.url, protocol="openrlhf"), row)
        assert complaint == (
            "row 'r7' cannot be sent: its prompt is a conversation: name the tokenizer whose chat template writes it"
        )
        tokenizer.save_pretrained(tmp_path / "bare")
        with pytest.raises(ConfigError, match="has no chat template; name one that has"):
            build("remote", url=service.url, protocol="openrlhf", tokenizer=str(tmp_path / "bare"))
        tokenizer.chat_template = (
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}"
        )
        tokenizer.save_pretrained(tmp_path / "chat")
        build("remote", url=service.url, protocol="openrlhf", tokenizer=str(tmp_path / "chat"))([row])
    assert service.bodies == [
        {"query": ["<user>Wo?<assistant>Rom"], "prompts": ["<user>Wo?<assistant>"], "labels": [""]}
    ]


# --- what comes back -------------------------------------------------------------------------------------------------


def test_the_service_speaks_of_each_row_by_itself(build: Any, rollout: Any) -> None:
    answer = {
        "scores": [0.5, None, None, float("nan"), "0.5", True, 10**400, 1],
        "errors": [None, None, "judge\nfell asleep", None, None, None, None, None],
        "parts": [{"style": 1, "facts": 0.5}, None, None, None, None, None, None, {"style": "good"}],
    }
    with serving(says(answer)) as service:
        scores = build("remote", url=service.url)([rollout(str(n)) for n in range(8)])
    assert scores[:3] == [
        Score(value=0.5, parts={"style": 1.0, "facts": 0.5}),
        Score(),  # does not apply
        Score(error="the service says 'judge\\nfell asleep'"),
    ]
    assert [score.error for score in scores[3:6]] == [
        f"the service gave a score of {value}, which is not a finite number" for value in ("nan", "'0.5'", "True")
    ]
    assert scores[6].error is not None
    assert scores[7].error == "the service gave parts of {'style': 'good'}, which are not finite numbers by name"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([1.0], "answered with [1.0], not with an object"),
        ({"rewards": [1.0]}, "answered without 'scores'; it has rewards"),
        ({}, "answered without 'scores'; it has nothing"),
        ({"scores": 1.0}, "answered with 'scores' as 1.0, not as a list"),
        ({"scores": [1.0, 2.0]}, "answered with 2 scores for 1 completions"),
        ({"scores": []}, "answered with 0 scores for 1 completions"),
        ({"scores": [1.0], "errors": []}, "answered with 0 errors for 1 completions"),
        ({"scores": [1.0], "parts": {}}, "answered with 'parts' as {}, not as a list"),
        ({"scores": [1.0], "version": 2}, "speaks version 2, and this is version 1"),
    ],
)
def test_an_answer_of_another_shape_is_an_error_that_shows_it(
    build: Any, rollout: Any, fault: Any, answer: Any, complaint: str
) -> None:
    with serving(says(answer)) as service:
        assert fault(build("remote", url=service.url), rollout("a")) == f"{service.url} {complaint}"
    assert len(service.bodies) == 1  # asking again would not help


@pytest.mark.parametrize("answer", [{"rewards": [None]}, {"scores": [1.0]}, {"rewards": [[1.0]]}, {"rewards": 1.0}])
def test_openrlhf_must_give_a_number_a_row(build: Any, rollout: Any, fault: Any, answer: Any) -> None:
    with serving(says(answer)) as service:
        fault(build("remote", url=service.url, protocol="openrlhf"), rollout("a"))


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"<!doctype html>\n<title>Log in</title>", "'<!doctype html> <title>Log in</title>'"),
        (b"", "nothing"),
        (b"\xff\x00\x1b[2J", "'\ufffd\\x00\\x1b[2J'"),
        (b'{"scores": [1', "'{\"scores\": [1'"),
        (b"[" * 100_000, "'" + "[" * 200 + "...'"),
    ],
)
def test_what_is_not_json_is_an_error_that_shows_it(
    build: Any, rollout: Any, fault: Any, content: bytes, shown: str
) -> None:
    with serving(lambda handler, _: handler.answer(content, kind="text/html")) as service:
        complaint = fault(build("remote", url=service.url), rollout("a"))
    assert complaint == f"{service.url} answered with what is not JSON: {shown}"


def test_a_failed_request_is_an_error_of_its_rows_alone(build: Any, rollout: Any) -> None:
    def picky(handler: Handler, body: dict[str, Any]) -> None:
        if "bad" in body["completions"]:
            handler.answer(b"no", 400)
        else:
            scores_lengths(handler, body)

    with serving(picky) as service:
        rows = [rollout(text) for text in ("a", "bb", "bad", "c", "dd")]
        answers = build("remote", url=service.url, batch_size=2)(rows)
    assert [answer.value for answer in answers] == [1.0, 2.0, None, None, 2.0]
    assert answers[2].error == answers[3].error == f"{service.url} answered HTTP 400 (Bad Request): 'no'"


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"url": "http://example.org/x"}, "plain http to example.org sends prompts and tokens unencrypted; use https"),
        ({"url": "http://10.0.0.5:80/x"}, "plain http to 10.0.0.5"),
        ({"url": "http://127.0.0.1.example.org/x"}, "plain http to 127.0.0.1.example.org"),
        ({"url": "ftp://example.org"}, "give https://HOST/PATH"),
        ({"url": "example.org/score"}, "give https://HOST/PATH"),
        ({"url": "https://"}, "give https://HOST/PATH"),
        ({"url": "https://example.org:port/x"}, "url: "),
        ({"url": "https://example.org/a b"}, "without spaces"),
        ({"url": "https://example.org/a\r\nX: y"}, "without spaces"),
        ({"url": "https://example.org/#a"}, "the part behind # is never sent"),
        ({"url": "https://example.org", "batch_size": 0}, "batch_size"),
        ({"url": "https://example.org", "protocol": "openrlhf", "metadata": ["a"]}, "metadata: protocol openrlhf has"),
        ({"url": "https://example.org", "tokenizer": "x"}, "tokenizer: protocol rlhf sends conversations"),
    ],
)
def test_options_that_cannot_work_are_refused(build: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("remote", **options)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/x", "http://127.8.8.8/x", "http://[::1]:1/x", "https://example.org"]
)
def test_addresses_that_need_no_leave(build: Any, url: str) -> None:
    build("remote", url=url)
    build("remote", url="http://example.org", allow_http=True)


def test_a_password_in_the_address_is_refused_and_not_repeated(build: Any) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("remote", url="https://me:hunter2@example.org/x")
    assert "token_env" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


# --- the token -------------------------------------------------------------------------------------------------------


def test_the_token_is_sent_and_shown_nowhere(
    build: Any, rollout: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCORER_TOKEN", "s3cr3t-of-ours")

    def repeats_it(handler: Handler, body: dict[str, Any]) -> None:
        handler.answer(f"who is {handler.headers['Authorization']}?".encode(), 401)

    row_error: Callable[[Handler, dict[str, Any]], None] = says({"scores": [None], "errors": ["no s3cr3t-of-ours"]})
    with serving(repeats_it, row_error, says({"s3cr3t-of-ours": 1})) as service:
        reward = build("remote", url=service.url, token_env="SCORER_TOKEN")
        complaints = [reward([rollout("a")])[0].error for _ in range(3)]
    assert [sent["Authorization"] for sent in service.headers] == ["Bearer s3cr3t-of-ours"] * 3
    assert complaints == [
        f"{service.url} answered HTTP 401 (Unauthorized): 'who is Bearer [token]?'",
        "the service says 'no [token]'",
        f"{service.url} answered without 'scores'; it has [token]",
    ]
    output = capfd.readouterr()
    assert "s3cr3t" not in output.out + output.err + repr(reward.config) + repr(vars(reward))


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        (None, "no environment variable 'SCORER_TOKEN' is set"),
        ("  ", "no environment variable 'SCORER_TOKEN' is set"),
        ("s3cr3t\r\nX-Evil: 1", "holds characters that no HTTP header may carry"),
        ("s3cr3tß", "holds characters that no HTTP header may carry"),
    ],
)
def test_a_token_that_cannot_be_sent_is_refused_and_not_repeated(
    build: Any, monkeypatch: pytest.MonkeyPatch, token: str | None, complaint: str
) -> None:
    monkeypatch.delenv("SCORER_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("SCORER_TOKEN", token)
    with pytest.raises(ConfigError) as refusal:
        build("remote", url="https://example.org", token_env="SCORER_TOKEN")
    assert complaint in str(refusal.value)
    assert "s3cr3t" not in str(refusal.value)


def test_the_query_of_an_address_is_not_repeated(build: Any, rollout: Any, fault: Any) -> None:
    def refuses(handler: Handler, body: dict[str, Any]) -> None:
        handler.answer(b"", 404)

    service: Service
    with serving(refuses) as service:
        complaint = fault(build("remote", url=service.url + "?key=hunter2"), rollout("a"))
    assert complaint == f"{service.url} answered HTTP 404 (Not Found): nothing"
