"""A service that is away is left alone for a while, asked once whether it is back, and trusted again when it is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from rlhf.rewards import http_post
from rlhf.rewards.circuit import MOST_FAILURES, REST, Circuit
from rlhf.rewards.http_post import Endpoint, PostFailed
from tests.unit.rewards.scoring_service import says, serving


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "FIRST_PAUSE", 0.0)


def refused(endpoint: Endpoint) -> str:
    with pytest.raises(PostFailed) as refusal:
        endpoint.post_json(b"{}")
    return str(refusal.value)


def test_a_service_that_keeps_failing_is_not_asked_until_it_has_had_a_rest() -> None:
    clock = Clock()
    busy, fine = says("busy", 503), says("fine")
    with serving(*[busy] * (2 * MOST_FAILURES + 1), fine) as service:
        endpoint = Endpoint(service.url, 5.0, 2, circuit=Circuit(clock))
        for _ in range(MOST_FAILURES):
            assert refused(endpoint).endswith("(2 times)")
        for _ in range(5):
            assert refused(endpoint) == (
                f"{service.url} is not asked for 30 s more, for 3 requests in a row failed: it answered HTTP 503 "
                "(Service Unavailable): '\"busy\"'"
            )
        assert len(service.headers) == 2 * MOST_FAILURES
        clock.now += REST
        assert refused(endpoint).endswith("'\"busy\"'")  # asked once, and no more
        assert "is not asked for 30 s more, for 4 requests" in refused(endpoint)
        assert len(service.headers) == 2 * MOST_FAILURES + 1
        clock.now += REST
        assert endpoint.post_json(b"{}") == b'"fine"'
        assert endpoint.post_json(b"{}") == b'"fine"'


def test_while_one_asks_whether_it_is_back_the_others_wait() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(MOST_FAILURES):
        circuit.failed("timed out")
    clock.now += REST
    assert [circuit.attempts(4) for _ in range(3)] == [1, 0, 0]
    circuit.answered()
    assert circuit.attempts(4) == 4


def test_failures_must_be_in_a_row_and_a_no_is_an_answer() -> None:
    no, busy = says("no", 400), says("busy", 503)
    with serving(*[busy, busy, no] * 4) as service:
        endpoint = Endpoint(service.url, 5.0, 1)
        complaints = [refused(endpoint) for _ in range(12)]
    assert len(service.headers) == 12
    assert not any("is not asked" in complaint for complaint in complaints)


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a real look-up takes as long as the machine's resolver likes
    assert refused(Endpoint("https://rewards.invalid/score", 5.0, 3)) == (
        "https://rewards.invalid/score cannot be reached: Name or service not known (3 times)"
    )


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "file:///etc/passwd"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_into_the_private_network_is_an_error_and_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, status: int, place: str
) -> None:
    opened: list[Any] = []
    connect = socket.create_connection

    def watched(address: Any, *rest: Any, **more: Any) -> socket.socket:
        opened.append(address)
        return connect(address, *rest, **more)

    with serving(says("there", status, Location=place)) as service:
        monkeypatch.setattr(socket, "create_connection", watched)
        complaint = refused(Endpoint(service.url, 5.0, 3))
    assert f"redirects are not followed, this one leads to '{place}'" in complaint
    assert [host for host, _ in opened] == ["127.0.0.1"]
