"""Answers that are no, in the shape that clients of OpenAI's API read: a status and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from rlhf.errors import ConfigError
from rlhf.validation import Model, validated

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """What is wrong, and the HTTP status that says so."""

    def __init__(self, status: int, message: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers: Mapping[str, str] = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> dict[str, Any]:
        """As OpenAI's API writes errors."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        headers = dict(self.headers) | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
        return JSONResponse(self.body(), self.status, headers)


def read_as(model: type[Model], value: Any) -> Model:
    """A request's JSON, checked; what is wrong with it becomes status 400 and one line."""
    if not isinstance(value, dict):
        raise Refusal(400, f"the body should be a JSON object, is {type(value).__name__}")
    try:
        return validated(model, value, "")
    except ConfigError as error:
        raise Refusal(400, _shortened(str(error))) from None


def _shortened(text: str) -> str:
    """What was sent is repeated in part only."""
    return text if len(text) <= 400 else f"{text[:300]} ... {text[-80:]}"
