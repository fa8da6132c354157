"""Which addresses a claim may be sent to: https anywhere, http on this machine only."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


def refuse_unsafe(url: str) -> str:
    """The address itself; `ValueError` for one that would send text in the clear, or carries a password."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"it is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("write https://HOST/PATH, or http://127.0.0.1:PORT/PATH")
    if parts.username or parts.password:
        raise ValueError("it holds a user name or password; put the secret into an environment variable: token_env")
    if parts.scheme == "http" and not is_loopback(parts):
        raise ValueError("http sends text in the clear; use https for other machines")
    return url


def is_loopback(parts: SplitResult) -> bool:
    """Whether the address is this machine's own."""
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
