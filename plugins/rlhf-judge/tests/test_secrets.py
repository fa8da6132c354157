"""The key is sent to the endpoint and appears nowhere else; texts go nowhere unasked."""

from __future__ import annotations

import logging
import traceback

import pytest
from pydantic import BaseModel, ValidationError

from rlhf.errors import ConfigError
from rlhf_judge.endpoint import Endpoint, Question
from rlhf_judge.panel import PanelConfig
from rlhf_judge.pointwise import JudgeConfig
from rlhf_judge.settings import EndpointConfig

KEY = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz-secret"


def config(url, **options):
    return EndpointConfig(model="m", base_url=url, **options)


def question():
    return Question(messages=({"role": "user", "content": "hello"},), parse=str, reminder="")


def test_the_key_is_sent_as_a_bearer_and_by_name_only(server, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", f"{KEY}\n")
    Endpoint(config(server.url, api_key_env="MY_JUDGE_KEY")).ask([question()])
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_what_openai_finds_in_the_environment_goes_nowhere(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert Endpoint(config(server.url)).ask([question()])[0].error is None
    assert KEY not in str(server.headers)
    assert "authorization" not in server.headers[0]


def test_an_endpoint_that_repeats_the_key_is_not_quoted(server, monkeypatch, Response, said, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    asked = Endpoint(config(server.url, api_key_env="MY_JUDGE_KEY", attempts=2))
    padded = "x" * 60 + KEY  # the excerpt's end would fall within the key
    replies = [
        Response(401, f'{{"error": {{"message": "Incorrect key {KEY}"}}}}'.encode()),
        Response(401, padded.encode()),
        Response(500, padded.encode()),
        Response(200, f"<html>{padded}".encode()),
        Response(200, padded.encode()),
        Response(302, b"", {"location": f"https://elsewhere.test/?key={KEY}"}),
        said(f"your key is {KEY}", "content_filter"),
        said(f"your key is {KEY}", "length"),
        said(f"your key is {KEY}"),
    ]
    shown = [repr(asked), str(asked.__dict__), repr(asked.__reduce__())]
    for reply in replies:
        server.reply = lambda request, number, reply=reply: reply
        (answer,) = asked.ask([question()])
        shown.append(repr(answer))
    shown += [
        repr(asked),
        repr(vars(asked)),
        repr(asked._live),
        repr(asked.config),
        caplog.text,
        str(capfd.readouterr()),
    ]
    for text in shown:
        assert KEY[:12] not in text
    assert "Incorrect key ***" in shown[3]


def test_a_traceback_of_a_broken_judge_holds_no_key(server, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    asked = Endpoint(config(server.url, api_key_env="MY_JUDGE_KEY"))

    def broken(text):
        raise ZeroDivisionError("a mistake of ours")

    with pytest.raises(ZeroDivisionError) as caught:
        asked.ask([Question(messages=question().messages, parse=broken, reminder="")])
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_key_that_is_no_secret_leaves_answers_alone(server, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", "none")
    server.reply = lambda request, number: "There is none."
    (answer,) = Endpoint(config(server.url, api_key_env="MY_JUDGE_KEY")).ask([question()])
    assert answer.value == "There is none."


@pytest.mark.parametrize("value", ["", "two words", "né", "a\x00b".replace("\x00", "\x07")])
def test_a_key_that_cannot_be_one_is_refused_at_once(monkeypatch, value):
    monkeypatch.setenv("MY_JUDGE_KEY", value)
    with pytest.raises(ConfigError) as caught:
        Endpoint(config("http://127.0.0.1:9/v1", api_key_env="MY_JUDGE_KEY"))
    assert "MY_JUDGE_KEY" in str(caught.value)
    assert not value or value not in str(caught.value)


def test_a_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("MY_JUDGE_KEY", raising=False)
    with pytest.raises(
        ConfigError, match=r"^judge 'm' at http://127.0.0.1:9/v1: api_key_env names MY_JUDGE_KEY, which"
    ):
        Endpoint(config("http://127.0.0.1:9/v1", api_key_env="MY_JUDGE_KEY"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api_key_env": KEY}, "must be the NAME of an environment variable"),
        ({"api_key_env": "abc123def456"}, "must be the NAME of an environment variable"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "base_url must hold no name, password, query or fragment"),
        ({"base_url": f"https://host/v1?key={KEY}"}, "base_url must hold no name, password, query or fragment"),
        ({"base_url": f"ftp://{KEY}/v1"}, "base_url must be http"),
        ({"base_url": f"{KEY}"}, "base_url must be http"),
        ({"base_url": "http://[::1"}, "base_url is not a URL"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url is not a URL"),
        ({"base_url": "http://example.test/v1"}, "unencrypted"),
        ({"base_url": "http://127.0.0.1.example.test/v1"}, "unencrypted"),
        ({"api_key": KEY}, "api_key"),
    ],
)
def test_settings_that_would_leak_are_refused_without_being_quoted(options, words):
    table = {"model": "m", "base_url": "https://example.test/v1", **options}
    for build in (lambda: JudgeConfig(**table), lambda: PanelConfig(judges=[table, table])):
        with pytest.raises(ValidationError) as raised:
            build()
        assert words in str(raised.value)
        assert not [start for start in range(len(KEY) - 8) if KEY[start : start + 8] in str(raised.value)]
        for finding in raised.value.errors():
            # The core quotes what is not a table, and an unknown key by its name alone.
            quoted = finding["type"] != "extra_forbidden" and not isinstance(finding["input"], dict | BaseModel)
            assert not quoted


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "http://127.0.0.1/v1", "http://[::1]:8/v1", "https://example.test/v1"]
)
def test_loopback_and_https_need_no_leave(url):
    assert config(url).base_url == url


def test_plain_http_to_another_machine_is_a_choice():
    assert config("http://10.0.0.5:8000/v1", allow_http=True).base_url == "http://10.0.0.5:8000/v1"


def test_no_proxy_stands_between_this_machine_and_itself(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert Endpoint(config(server.url)).ask([question()])[0].error is None
