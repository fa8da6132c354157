"""What is served, where, and how much of it one client may ask for; plain data, which reaches every replica."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from rlhf.config import Part, PartConfig, RewardPart
from rlhf.plugins import PluginSettings


class Limits(PartConfig):
    """What a request may cost."""

    max_body: int = Field(default=2**20, ge=1024)
    """Bytes of a request (413)."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens of one answer (400)."""
    timeout: float = Field(default=300.0, gt=0)
    """Seconds from the whole request to the end of its answer (504)."""
    max_requests: int = Field(default=256, ge=1)
    """Answers under way at a time of one model, those that wait among them (429)."""


class JudgeConfig(PartConfig):
    """A reward or grader that is served under a name."""

    name: str
    kind: Literal["reward", "grader"]
    part: RewardPart
    model: str | None = None
    """Folder or hub name of a reward model; where absent, `part` needs none."""


class ServingConfig(PartConfig):
    """Everything there is to say before anything starts."""

    models: dict[str, str] = Field(min_length=1, max_length=2)
    """Folder or hub name by the name clients use; the first one answers where none is named."""
    engine: Part = Part(type="auto")
    """What generates: `transformers`, `vllm`, a guest's, or `auto`."""
    judges: tuple[JudgeConfig, ...] = ()
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0: any that is free."""
    limits: Limits = Limits()
    plugins: PluginSettings = PluginSettings()
    preferences: str | None = None
    """Folder where choices between two answers are recorded."""

    @property
    def is_private(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine as it calls itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
