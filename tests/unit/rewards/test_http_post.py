"""POST with retries: what is tried again, how long it waits, and everything a server can do to a client."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from rlhf.rewards import http_post
from rlhf.rewards.http_post import MAX_ANSWER_BYTES, Endpoint, PostFailed
from tests.unit.rewards.scoring_service import Handler, Reply, says, serving


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "FIRST_PAUSE", 0.01)


def endpoint(url: str, **options: Any) -> Endpoint:
    return Endpoint(url, **({"timeout": 5.0, "max_attempts": 3} | options))


def failure(url: str, **options: Any) -> str:
    with pytest.raises(PostFailed) as refusal:
        endpoint(url, **options).post_json(b"{}")
    return str(refusal.value)


def hangs_up(handler: Handler, body: dict[str, Any]) -> None:
    """Says nothing and closes, as a server that is killed does."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


# --- what passes, and what does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_under_one_key(status: int) -> None:
    with serving(says("busy", status), says("busy", status), says("fine")) as service:
        assert endpoint(service.url).post_json(b"{}") == b'"fine"'
    keys = {headers["Idempotency-Key"] for headers in service.headers}
    assert len(service.headers) == 3
    assert len(keys) == 1
    assert keys.pop().startswith('"')


def test_another_request_has_another_key() -> None:
    with serving(says("fine")) as service:
        for _ in range(2):
            endpoint(service.url).post_json(b"{}")
    assert len({headers["Idempotency-Key"] for headers in service.headers}) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_asked_once(status: int) -> None:
    with serving(says("no", status)) as service:
        complaint = failure(service.url)
    assert complaint.startswith(f"{service.url} answered HTTP {status} (")
    assert len(service.headers) == 1


def test_attempts_end_and_are_counted() -> None:
    with serving(says("busy", 503)) as service:
        assert failure(service.url) == f"{service.url} answered HTTP 503 (Service Unavailable): '\"busy\"' (3 times)"
    assert len(service.headers) == 3


def test_a_connection_that_breaks_is_tried_again() -> None:
    with serving(hangs_up, says("fine")) as service:
        assert endpoint(service.url).post_json(b"{}") == b'"fine"'
    with serving(hangs_up) as service:
        complaint = failure(service.url)
    assert complaint.startswith(f"{service.url} cannot be reached: ")
    assert complaint.endswith("(3 times)")


def test_nobody_listening_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        assert failure(url) == f"{url} cannot be reached: Connection refused (3 times)"


def test_redirects_are_not_followed() -> None:
    with serving(says("fine")) as other, serving(says("gone", 307, Location=other.url)) as service:
        complaint = failure(service.url)
    assert complaint == (
        f"{service.url} answered HTTP 307 (Temporary Redirect): '\"gone\"'; redirects are not followed, this one leads "
        f"to '{other.url}'"
    )
    assert other.headers == []


# --- pauses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_a_server_asks_for_is_kept(status: int) -> None:
    with serving(says("busy", status, Retry_After="1"), says("fine")) as service:
        endpoint(service.url).post_json(b"{}")
    assert service.times[1] - service.times[0] >= 1.0


def test_a_pause_may_be_given_as_a_date() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    with serving(says("busy", 429, Retry_After=until)) as service:
        complaint = failure(service.url)
    assert "and asks for a pause of " in complaint
    assert complaint.endswith(" s; at most 60 s are waited")
    assert len(service.headers) == 1


@pytest.mark.parametrize("value", ["", "soon", "-1", "0", "Mon, 01 Jan 2001 00:00:00 GMT", "²"])
def test_a_pause_that_says_nothing_is_none(value: str) -> None:
    start = time.monotonic()
    with serving(says("busy", 503, Retry_After=value), says("fine")) as service:
        endpoint(service.url).post_json(b"{}")
    assert time.monotonic() - start < 3
    assert len(service.headers) == 2


def test_pauses_grow_at_random_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "FIRST_PAUSE", 0.5)
    for attempt, most in ((1, 0.5), (2, 1.0), (3, 2.0), (20, 60.0)):
        pauses = [http_post._pause(attempt, 0.0) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most
    assert http_post._pause(1, 7.0) == 7.0


# --- servers that do harm --------------------------------------------------------------------------------------------


def never_answers(handler: Handler, body: dict[str, Any]) -> None:
    time.sleep(3)


def drips_headers(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(30):
        time.sleep(0.1)
        handler.wfile.write(b"X-Slow: 1\r\n")


def drips_body(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(30):
        time.sleep(0.1)
        handler.wfile.write(b" ")


def drips_without_end(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for _ in range(30):
        time.sleep(0.1)
        handler.wfile.write(b" ")


@pytest.mark.parametrize("reply", [never_answers, drips_headers, drips_body, drips_without_end])
def test_the_whole_answer_must_come_in_time(reply: Reply) -> None:
    with serving(reply) as service:
        start = time.monotonic()
        complaint = failure(service.url, timeout=0.5, max_attempts=1)
        assert time.monotonic() - start < 2.5
    assert complaint == f"{service.url} gave no whole answer within 0.5 s"


def test_time_outs_are_tried_again() -> None:
    with serving(never_answers, says("fine")) as service:
        assert endpoint(service.url, timeout=0.5).post_json(b"{}") == b'"fine"'


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_without_end_is_not_read_to_its_end(announced: bool) -> None:
    size = MAX_ANSWER_BYTES * 8

    def floods(handler: Handler, body: dict[str, Any]) -> None:
        length = f"Content-Length: {size}\r\n" if announced else ""
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{length}\r\n".encode())
        for _ in range(size // 2**16):
            handler.wfile.write(b"x" * 2**16)
            sent.append(2**16)

    sent: list[int] = []
    with serving(floods) as service:
        complaint = failure(service.url)
    assert sum(sent) < size / 2
    assert complaint == f"{service.url} answered with more than 8 MiB; send fewer rows at a time"
    assert len(service.headers) == 1


def cut_short(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{"scores": [1]}')
    handler.close_connection = True


def cut_chunk(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n64\r\n{}")
    handler.close_connection = True


def no_http(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    handler.close_connection = True


def endless_header(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("reply", [cut_short, cut_chunk, no_http, endless_header])
def test_what_is_no_whole_http_answer_is_tried_again_and_told(reply: Reply) -> None:
    with serving(reply, says("fine")) as service:
        assert endpoint(service.url).post_json(b"{}") == b'"fine"'
    with serving(reply) as service:
        complaint = failure(service.url)
    assert complaint.startswith(f"{service.url} cannot be reached: ")
    assert "\n" not in complaint


def test_chunks_are_read() -> None:
    def chunks(handler: Handler, body: dict[str, Any]) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\n \r\n0\r\n\r\n")

    with serving(chunks) as service:
        assert endpoint(service.url).post_json(b"{}") == b"{} "


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl, which makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(path), "-out", f"{path}.crt", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@contextmanager
def serving_tls(certificate: Path, reply: Reply) -> Iterator[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(reply, tls=context) as service:
        yield service


def test_a_certificate_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with serving_tls(certificate, says("fine")) as service:
        complaint = failure(service.url)
    assert complaint == f"{service.url} has a certificate that is not trusted: self-signed certificate"
    assert service.headers == []


def test_a_certificate_the_machine_trusts_is_taken(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving_tls(certificate, says("fine")) as service:
        assert endpoint(service.url).post_json(b"{}") == b'"fine"'


def test_time_ends_an_answer_over_tls_too(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving_tls(certificate, drips_body) as service:
        complaint = failure(service.url, timeout=0.5, max_attempts=1)
    assert complaint == f"{service.url} gave no whole answer within 0.5 s"


# --- what it leaves behind -------------------------------------------------------------------------------------------


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with serving(says("fine")) as service:
        for _ in range(5):
            endpoint(service.url).post_json(b"{}")
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_token_is_not_in_its_text() -> None:
    assert "hunter2" not in repr(Endpoint("https://example.org", 1.0, token="hunter2"))
