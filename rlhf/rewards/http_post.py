"""POST to one address, with everything that can go wrong on the way said in a line.

The standard library's client: it follows no redirects, uses no proxy, checks certificates, and costs no dependency.
What passes by itself is tried again (no connection, a connection that broke, time-outs, HTTP 429 and 5xx), after
growing pauses with jitter, or the pause the server asks for; a server that is away is left alone for a while. A token
is sent and never shown, also where the server repeats it.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from rlhf import __version__
from rlhf.rewards.circuit import Circuit

MAX_ANSWER_BYTES = 8 * 2**20
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
_SHOWN = 200  # characters of an answer that an error repeats

_jitter = random.Random()  # of its own, so that it moves no seeded generator


class PostFailed(Exception):
    """No usable answer came; the message says what came instead, and how often it was tried."""


class _Fault(Exception):
    """One attempt failed: why, whether that may pass by itself, and how many seconds the server asks to wait."""

    def __init__(self, reason: str, *, passes: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.passes, self.wait = reason, passes, wait


@dataclass(frozen=True)
class Endpoint:
    """An address that takes POST. Methods may be called from several threads."""

    url: str
    timeout: float
    """Seconds from the connection to the end of the answer, of one attempt."""
    max_attempts: int = 1
    token: str | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer TOKEN`."""
    circuit: Circuit = field(default_factory=Circuit, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The address without its query, which may hold what is nobody's business."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    def post_json(self, body: bytes) -> bytes:
        """The body of the answer, of HTTP status 2xx; `PostFailed` for anything else.

        All attempts carry one `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), by which a server can tell
        that it has judged these rows already.
        """
        key = f'"{uuid.uuid4()}"'
        attempts = self.circuit.attempts(self.max_attempts)
        for attempt in range(1, attempts + 1):
            try:
                answer = self._attempt(body, key)
            except _Fault as fault:
                self._leave_or_wait(fault, attempt, attempts)
            else:
                self.circuit.answered()
                return answer
        raise PostFailed(f"{self.name} {self.circuit.why}")

    def _leave_or_wait(self, fault: _Fault, attempt: int, attempts: int) -> None:
        """Raise `PostFailed` where there is no other attempt; else let the time pass until there is."""
        times = "" if attempt == 1 else f" ({attempt} times)"
        if not fault.passes:
            self.circuit.answered()
            raise PostFailed(f"{self.name} {fault.reason}{times}") from None
        if attempt == attempts:
            self.circuit.failed(fault.reason)
            raise PostFailed(f"{self.name} {fault.reason}{times}") from None
        if fault.wait > LONGEST_PAUSE:
            self.circuit.failed(fault.reason)
            raise PostFailed(
                f"{self.name} {fault.reason}, and asks for a pause of {fault.wait:.0f} s; at most "
                f"{LONGEST_PAUSE:.0f} s are waited"
            ) from None
        time.sleep(_pause(attempt, fault.wait))

    def _attempt(self, body: bytes, key: str) -> bytes:
        connection = self._connection()
        try:
            with _deadline(connection, self.timeout):
                connection.request("POST", self._target, body, self._headers(key))
                with connection.getresponse() as response:
                    return self._read(response)
        except ssl.SSLCertVerificationError as error:
            raise _Fault(f"has a certificate that is not trusted: {error.verify_message}") from None
        except TimeoutError:
            raise _Fault(f"gave no whole answer within {self.timeout:g} s", passes=True) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Fault(f"cannot be reached: {_cause(error)}", passes=True) from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        return http.client.HTTPSConnection(host, parts.port, timeout=self.timeout, context=ssl.create_default_context())

    @property
    def _target(self) -> str:
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _headers(self, key: str) -> dict[str, str]:
        bearer = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {
            "Accept": "application/json",
            "Connection": "close",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "User-Agent": f"rlhf/{__version__}",
        } | bearer

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise _Fault(f"answered with more than {MAX_ANSWER_BYTES // 2**20} MiB; send fewer rows at a time")
        if response.length:  # bytes that were announced and did not come
            raise http.client.IncompleteRead(body, response.length)
        if 200 <= response.status < 300:
            return body
        phrase = http.client.responses.get(response.status, "a status of its own")
        reason = f"answered HTTP {response.status} ({phrase}): {self.shown(body)}"
        if 300 <= response.status < 400:
            place = self.shown(response.headers.get("Location", "").encode())
            reason += f"; redirects are not followed, this one leads to {place}"
        passes = response.status == HTTPStatus.TOO_MANY_REQUESTS or response.status >= 500
        raise _Fault(reason, passes=passes, wait=_retry_after(response.headers))

    def hide(self, text: str) -> str:
        """The text without the token, should a server have repeated it."""
        return text.replace(self.token, "[token]") if self.token else text

    def shown(self, body: bytes) -> str:
        """The start of an answer as an error repeats it: one line, no control characters, no token."""
        text = " ".join(self.hide(body.decode("utf-8", "replace")).split())
        return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...") if text else "nothing"


@contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Connect, and `TimeoutError` if the block is not done in time.

    A socket's own time-out is one of silence: a server that sends a byte now and then would keep us for ever. So a
    timer hangs up.
    """
    start = time.monotonic()
    connection.connect()
    line, expired = connection.sock, threading.Event()

    def hang_up() -> None:
        expired.set()
        try:
            socket.socket.shutdown(line, socket.SHUT_RDWR)  # of the connection beneath TLS, from any thread
        except OSError:
            return  # it was over already

    timer = threading.Timer(max(0.0, seconds - (time.monotonic() - start)), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, _Fault):
        if expired.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if expired.is_set():  # an answer of unknown length ends where it is cut
        raise TimeoutError


def _pause(attempt: int, asked: float) -> float:
    """Seconds before the next attempt: random, up to twice as long each time ("full jitter"), no less than asked."""
    return max(asked, _jitter.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))))


def _retry_after(headers: Message) -> float:
    """Seconds the server asks to wait, given as such or as a date (RFC 9110, section 10.2.3); 0 where it does not."""
    value = str(headers.get("Retry-After", "")).strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _cause(error: Exception) -> str:
    """An error of the network in words; some have none but their name."""
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
