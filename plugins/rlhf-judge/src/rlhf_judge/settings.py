"""Where a judging model is asked, and how patiently."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from rlhf import PartConfig

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_OWN_FIELDS = {"messages", "model", "n", "response_format", "stream"}


class EndpointConfig(PartConfig):
    """An OpenAI-compatible chat endpoint.

    Checks that speak of a URL or of `api_key_env` are made on the whole table and quote neither: either may hold a
    secret by mistake.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    model: str = Field(min_length=1)
    """As the endpoint calls it."""
    base_url: str
    """Up to the version: `http://127.0.0.1:8000/v1`. There is no default: no text leaves the machine unasked."""
    api_key_env: str | None = None
    """NAME of the environment variable that holds the key. The key itself never stands in a recipe."""
    allow_http: bool = False
    """Allow `http:` to another machine. Key and texts then cross the network unencrypted."""
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """`null` leaves it to the endpoint; some reasoning models take none."""
    max_tokens: int | None = Field(default=1024, ge=1)
    """Of one answer of the judge, reasoning included. `null` leaves it to the endpoint."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, as `{seed: 1}` or `{max_completion_tokens: 2048}`."""
    requests_at_once: int = Field(default=32, ge=1)
    """Requests in flight to this endpoint at any time."""
    attempts: int = Field(default=5, ge=1)
    """How often one request is sent before it fails: on 408, 429, 5xx, a broken connection or a time-out. Between
    them lie at most 0.5 s, 1 s, 2 s, ... 30 s, drawn at random below that, or what `Retry-After` asks for.
    """
    request_timeout: float = Field(default=60.0, gt=0)
    """Seconds one request may take."""
    deadline: float = Field(default=600.0, gt=0)
    """Seconds for all rows of one call together, retries included. Rows not judged by then are errors."""
    parse_retries: int = Field(default=1, ge=0)
    """How often the judge is asked again for a verdict that can be read."""
    max_reply_bytes: int = Field(default=1 << 20, ge=1024)
    """A longer body is not read to its end."""
    input_price: float | None = Field(default=None, ge=0)
    """Per million prompt tokens, in any currency."""
    output_price: float | None = Field(default=None, ge=0)
    """Per million answer tokens. With both prices, cost is a part of every score and a total of the judge."""

    @property
    def loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def label(self) -> str:
        """How errors name it."""
        return f"judge {self.model!r} at {self.base_url}"

    @model_validator(mode="after")
    def _url_is_plain(self) -> EndpointConfig:
        try:
            url = urlsplit(self.base_url)
            url.port  # noqa: B018 - reading it checks it
        except ValueError:
            raise ValueError("base_url is not a URL; give one like http://127.0.0.1:8000/v1") from None
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("base_url must hold no name, password, query or fragment; a key goes in api_key_env")
        if url.scheme not in ("http", "https") or not url.hostname or re.search(r"\s", self.base_url):
            raise ValueError("base_url must be http(s)://HOST[:PORT]/PATH, like http://127.0.0.1:8000/v1")
        if url.scheme == "http" and not self.allow_http and not is_loopback(url.hostname):
            raise ValueError(
                "base_url is http: to another machine, which sends key and texts unencrypted; use https:, or say "
                "allow_http: true"
            )
        return self

    @model_validator(mode="after")
    def _name_and_not_key(self) -> EndpointConfig:
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise ValueError(
                "api_key_env must be the NAME of an environment variable (capitals, digits and _), not the key itself"
            )
        return self

    @model_validator(mode="after")
    def _body_is_ours(self) -> EndpointConfig:
        taken = _OWN_FIELDS & self.extra_body.keys()
        if taken:
            raise ValueError(f"extra_body may not set {', '.join(sorted(taken))}: that is the judge's own business")
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("give both input_price and output_price (per million tokens), or neither")
        return self


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
