"""Asking an endpoint: what is retried, what is not, what an error says, and that nothing waits for ever."""

from __future__ import annotations

import copy
import gzip
import os
import socket
import threading
import time

import pytest

from rlhf_judge.endpoint import Endpoint, Question
from rlhf_judge.faults import Unreadable
from rlhf_judge.settings import EndpointConfig

HTML = b"<html><body><h1>Welcome to nginx</h1>" + b"x" * 500 + b"</body></html>"


def endpoint(url, **options):
    return Endpoint(EndpointConfig(model="m", base_url=url, **options))


def question(text="hello"):
    def parse(reply):
        if not reply.startswith("yes"):
            raise Unreadable(f"neither yes nor no: {reply!r}")
        return reply

    return Question(messages=({"role": "user", "content": text},), parse=parse, reminder="Say yes.")


def test_an_answer_comes_back_in_order_with_its_tokens(server):
    server.reply = lambda request, number: f"yes {request['messages'][-1]['content']}"
    asked = endpoint(server.url, input_price=2.0, output_price=8.0)
    answers = asked.ask([question(str(n)) for n in range(20)])
    assert [a.value for a in answers] == [f"yes {n}" for n in range(20)]
    assert {a.error for a in answers} == {None}
    assert (asked.usage.requests, asked.usage.prompt_tokens, asked.usage.completion_tokens) == (20, 2000, 200)
    assert answers[0].usage.cost == pytest.approx((100 * 2.0 + 10 * 8.0) / 1e6)
    assert asked.usage.cost == pytest.approx(20 * 280e-6)
    assert set(server.paths) == {"/v1/chat/completions"}


def test_what_is_sent(server):
    server.reply = lambda request, number: "yes"
    endpoint(server.url, extra_body={"seed": 7}, temperature=None, max_tokens=9).ask([question()])
    assert server.requests[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 9,
        "seed": 7,
    }


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_passing_failures_are_asked_again(server, Response, status):
    server.reply = lambda request, number: Response(status, b"{}") if number < 2 else "yes"
    asked = endpoint(server.url)
    (answer,) = asked.ask([question()])
    assert answer.value == "yes"
    assert (asked.usage.requests, asked.usage.retries) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_lasting_failures_are_not(server, Response, status):
    server.reply = lambda request, number: Response(status, b'{"error": {"message": "no such model"}}')
    (answer,) = endpoint(server.url).ask([question()])
    assert answer.error == f"judge 'm' at {server.url}: answered {status}: 'no such model'"
    assert len(server.requests) == 1


def test_an_empty_account_is_no_rate_limit(server, Response):
    body = b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    server.reply = lambda request, number: Response(429, body)
    (answer,) = endpoint(server.url).ask([question()])
    assert "answered 429: 'You exceeded your quota'" in answer.error
    assert len(server.requests) == 1


def test_attempts_end(server, Response):
    server.reply = lambda request, number: Response(503, b"overloaded")
    (answer,) = endpoint(server.url, attempts=3).ask([question()])
    assert answer.error == f"judge 'm' at {server.url}: answered 503: 'overloaded' (after 3 attempts)"
    assert len(server.requests) == 3


def test_retry_after_is_honoured(server, Response):
    times = []

    def reply(request, number):
        times.append(time.monotonic())
        return Response(429, b"{}", {"retry-after": "1"}) if number == 0 else "yes"

    server.reply = reply
    (answer,) = endpoint(server.url).ask([question()])
    assert answer.value == "yes"
    assert times[1] - times[0] >= 1.0


def test_a_wait_beyond_the_deadline_is_not_begun(server, Response):
    server.reply = lambda request, number: Response(429, b"slow down", {"retry-after": "3600"})
    began = time.monotonic()
    (answer,) = endpoint(server.url, deadline=30).ask([question()])
    assert time.monotonic() - began < 15
    assert "answered 429: 'slow down'; asking again in 3.6e+03 s would miss the deadline of 30 s" in answer.error


@pytest.mark.parametrize("content_type", ["text/html", "application/json"])
def test_html_says_what_came_back(server, Response, content_type):
    server.reply = lambda request, number: Response(200, HTML, {"content-type": content_type})
    (answer,) = endpoint(server.url).ask([question()])
    assert "answered HTML: '<html><body><h1>Welcome to nginx</h1>x" in answer.error
    assert "is base_url right" in answer.error
    assert len(answer.error) < 250
    assert "\n" not in answer.error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "answered what is not JSON: nothing"),
        (b"ok", "answered what is not JSON: 'ok'"),
        (b"[" * 100_000, "answered what is not JSON: '[[["),
        (b"[]", "without choices[0].message: '[]'"),
        (b'{"choices": []}', "without choices[0].message"),
        (b'{"choices": [{"text": "yes"}]}', "without choices[0].message"),
        (b'{"error": {"message": "overloaded"}}', 'without choices[0].message: \'{"error"'),
        (b'{"choices": [{"message": {"content": null}}]}', "answered without text"),
        (b'{"choices": [{"message": {"content": [1]}}]}', "answered without text"),
        (b"\xff\xfe\x00", "answered what is not JSON"),
    ],
)
def test_a_body_of_another_schema_is_an_error(server, Response, body, words):
    server.reply = lambda request, number: Response(200, body)
    (answer,) = endpoint(server.url).ask([question()])
    assert answer.value is None
    assert words in answer.error


def test_text_that_cannot_be_sent_is_its_rows_error(server):
    server.reply = lambda request, number: "yes \ud800"
    bad, good = endpoint(server.url).ask([question("half \ud800 a pair"), question()])
    assert "cannot be sent: it holds half of a surrogate pair" in bad.error
    assert good.value == "yes ?"
    assert server.texts() == ["hello"]


def test_a_body_that_cannot_be_decompressed_is_an_error(server, Response):
    server.reply = lambda request, number: Response(200, b"not gzip", {"content-encoding": "gzip"})
    (answer,) = endpoint(server.url, attempts=2).ask([question()])
    assert answer.error.endswith("(after 2 attempts)")


def test_a_mistake_of_ours_is_raised_and_stops_the_rest(server):
    def broken(reply):
        raise ZeroDivisionError

    wrong = Question(messages=question().messages, parse=broken, reminder="")
    with pytest.raises(ZeroDivisionError):
        endpoint(server.url, requests_at_once=1).ask([wrong, *[question()] * 50])
    time.sleep(0.2)
    assert len(server.requests) < 5


def test_refusals_and_cut_answers_are_errors_and_their_tokens_count(server, said):
    replies = [said("yes", "length"), said("yes", "content_filter"), said(None, refusal="I cannot judge this")]
    server.reply = lambda request, number: replies[int(request["messages"][-1]["content"])]
    asked = endpoint(server.url)
    cut, filtered, refused = asked.ask([question(str(n)) for n in range(3)])
    assert "cut at max_tokens (1024)" in cut.error
    assert "refused to judge this text: 'yes'" in filtered.error
    assert "refused to judge this text: 'I cannot judge this'" in refused.error
    assert asked.usage.completion_tokens == 30


def test_a_body_cut_off_is_asked_again(server, said, Response):
    whole = said("yes")
    server.reply = lambda request, number: Response(200, whole.body, cut=True) if number == 0 else whole
    (answer,) = endpoint(server.url).ask([question()])
    assert answer.value == "yes"
    server.reply = lambda request, number: Response(200, whole.body, cut=True)
    (answer,) = endpoint(server.url, attempts=2).ask([question()])
    assert "the connection broke" in answer.error
    assert "(after 2 attempts)" in answer.error


def test_an_endless_body_is_not_read(server, Response):
    server.reply = lambda request, number: Response(200, b"x" * 3_000_000)
    (answer,) = endpoint(server.url).ask([question()])
    assert "answered 200 with more than 1048576 bytes; not read on" in answer.error
    server.reply = lambda request, number: Response(500, b"x" * 3_000_000)
    (answer,) = endpoint(server.url, attempts=1).ask([question()])
    assert "answered 500 with more than 1048576 bytes" in answer.error
    bomb = gzip.compress(b"\0" * 20_000_000)
    server.reply = lambda request, number: Response(200, bomb, {"content-encoding": "gzip"})
    (answer,) = endpoint(server.url).ask([question()])
    assert "with more than 1048576 bytes" in answer.error


def test_a_redirect_is_not_followed(server, Response):
    server.reply = lambda request, number: Response(307, b"", {"location": f"{server.url}/elsewhere"})
    (answer,) = endpoint(server.url).ask([question()])
    assert f"answered 307, a redirect to '{server.url}/elsewhere', which is not followed" in answer.error
    assert len(server.requests) == 1


def test_a_slow_endpoint_times_out_and_is_asked_again(server):
    released = threading.Event()

    def reply(request, number):
        if number < 2:
            released.wait(20)
        return "yes"

    server.reply = reply
    (answer,) = endpoint(server.url, request_timeout=0.5, attempts=3).ask([question()])
    released.set()
    assert answer.value == "yes"
    assert len(server.requests) == 3


def test_the_deadline_holds_for_all_rows_together(server):
    released = threading.Event()

    def reply(request, number):
        if number > 0:
            released.wait(20)
        return "yes"

    server.reply = reply
    began = time.monotonic()
    asked = endpoint(server.url, deadline=1.5, requests_at_once=2)
    answers = asked.ask([question(str(n)) for n in range(40)])
    released.set()
    assert time.monotonic() - began < 10
    late = [answer.error for answer in answers if answer.error]
    assert len(late) == 39
    assert all("no answer within" in e or "not judged within the deadline of 1.5 s" in e for e in late)


def test_an_endpoint_that_is_down_is_found_out_once(monkeypatch):
    monkeypatch.setattr("rlhf_judge.backoff.BASE", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    asked = endpoint(url, requests_at_once=4, attempts=3)
    answers = asked.ask([question(str(n)) for n in range(400)])
    first = answers[0].error
    assert first.startswith(f"judge 'm' at {url}: cannot connect (")
    assert "refused" in first.lower() or "failed" in first.lower()
    assert all(answer.error.startswith(f"judge 'm' at {url}: cannot connect") for answer in answers)
    assert asked.usage.requests <= 4 * 3


def test_one_that_answered_once_is_not_given_up(server, Response):
    server.reply = lambda request, number: "yes" if number % 2 == 0 else Response(404, b"gone")
    answers = endpoint(server.url, requests_at_once=1).ask([question(str(n)) for n in range(10)])
    assert [answer.error is None for answer in answers] == [True, False] * 5


def test_an_unreadable_answer_is_asked_for_again_with_a_reminder(server):
    server.reply = lambda request, number: "perhaps" if number == 0 else "yes"
    asked = endpoint(server.url)
    (answer,) = asked.ask([question()])
    assert answer.value == "yes"
    assert asked.usage.unreadable == 1
    assert server.texts() == ["hello", "hello\n\nSay yes."]


def test_parse_retries_end(server):
    server.reply = lambda request, number: "perhaps"
    (answer,) = endpoint(server.url, parse_retries=2).ask([question()])
    assert answer.value is None
    assert answer.error == f"judge 'm' at {server.url}: neither yes nor no: 'perhaps'"
    assert server.texts() == ["hello", *["hello\n\nSay yes."] * 2]


def test_requests_run_at_once_and_no_more_than_allowed(server):
    together = threading.Barrier(8, timeout=30)  # breaks unless eight are in flight at the same time

    def reply(request, number):
        together.wait()
        return "yes"

    server.reply = reply
    answers = endpoint(server.url, requests_at_once=8).ask([question(str(n)) for n in range(64)])
    assert all(answer.value == "yes" for answer in answers)
    assert server.peak == 8


def test_callers_on_several_threads_share_the_bound(server):
    server.reply = lambda request, number: time.sleep(0.02) or "yes"
    asked = endpoint(server.url, requests_at_once=3)
    threads = [threading.Thread(target=asked.ask, args=([question(str(n)) for n in range(6)],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(server.requests) == 24
    assert server.peak <= 3


def test_it_works_inside_a_running_event_loop(server):
    import asyncio

    server.reply = lambda request, number: "yes"

    async def caller():
        return endpoint(server.url).ask([question()])

    assert asyncio.run(caller())[0].value == "yes"


def test_a_forked_child_asks_too(server):
    server.reply = lambda request, number: "yes"
    asked = endpoint(server.url)
    assert asked.ask([question()])[0].value == "yes"
    child = os.fork()
    if child == 0:
        os._exit(0 if asked.ask([question()])[0].value == "yes" else 1)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert status == 0


def test_it_travels_by_its_settings(server):
    server.reply = lambda request, number: "yes"
    asked = endpoint(server.url)
    asked.ask([question()])
    assert copy.copy(asked).ask([question()])[0].value == "yes"
