"""Exceptions of the openai client as faults: what happened, and whether asking again may help."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai

from rlhf_judge.backoff import parse_retry_after
from rlhf_judge.faults import Fault, excerpt

_TRANSIENT = {408, 429}
_FOR_EVERYONE = {401, 403, 404}


class TooLong(openai.OpenAIError):
    """A body longer than is read; of openai's family, so that its client lets it through."""


def fault_of(error: Exception) -> Fault:
    """An exception of the client as a fault."""
    if isinstance(error, TooLong):
        return Fault(str(error))
    if isinstance(error, openai.APITimeoutError):
        return Fault(f"no answer in time ({type(error.__cause__).__name__})", transient=True)
    if isinstance(error, openai.APIConnectionError):
        return Fault(_connection(error), transient=True, for_everyone=True)
    if isinstance(error, openai.APIStatusError):
        return _status(error)
    raise error


def _connection(error: Exception) -> str:
    """The lowest cause says most: "Connection refused" and not "Connection error."."""
    causes = []
    cause: BaseException | None = error.__cause__
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    system = [str(c) for c in causes if isinstance(c, OSError) and c.errno]
    broken = [c for c in causes if isinstance(c, httpx2.RemoteProtocolError | httpx2.ReadError)]
    what = system[0] if system else str(causes[0]) if causes else str(error)
    return f"the connection broke ({what})" if broken else f"cannot connect ({what})"


def _status(error: openai.APIStatusError) -> Fault:
    status, headers = error.status_code, error.response.headers
    body = error.response.text
    if 300 <= status < 400:
        return Fault(
            f"answered {status}, a redirect to {headers.get('location', '?')!r}, which is not followed; "
            f"name the final base_url",
            for_everyone=True,
        )
    message = f"answered {status}: {excerpt(_detail(body))}"
    # A used-up account answers 429 too, and no waiting helps.
    transient = (status in _TRANSIENT or status >= 500) and error.code != "insufficient_quota"
    retry_after = parse_retry_after(headers.get("retry-after")) if transient else None
    return Fault(message, transient=transient, for_everyone=status in _FOR_EVERYONE, retry_after=retry_after)


def _detail(body: str) -> str:
    """The `error.message` of the chat-completions schema; the body as it is where it has none."""
    try:
        found: Any = json.loads(body)
        message = found["error"]["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return body
    return message if isinstance(message, str) else body
