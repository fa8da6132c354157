"""Writing for those who wait: requests join and leave while others are being written."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from rlhf.types import FinishReason, Prompt, Sampling


class Piece(NamedTuple):
    """What was written of one request since the last step."""

    request: str
    token_ids: tuple[int, ...]
    """With the token that ended it, where one did."""
    finish_reason: FinishReason | None
    """None while it goes on."""


class Writer(Protocol):
    """Continues many prompts at once, each with a sampling of its own. Not for several threads."""

    @property
    def busy(self) -> bool:
        """Whether a step would write anything."""
        ...

    def add(self, request: str, prompt: Prompt, sampling: Sampling) -> None:
        """Begin one sample of a prompt with `token_ids` that fits the context. Stop strings are the caller's."""
        ...

    def drop(self, request: str) -> None:
        """Nobody waits for it any more; it may have ended already."""
        ...

    def step(self) -> list[Piece]:
        """About one token for each request that is being written."""
        ...


@runtime_checkable
class WritingEngine(Protocol):
    """A rollout engine that can tell what it writes token by token."""

    def writer(self) -> Writer:
        """One writer; what else the engine generates meanwhile waits, or disturbs it."""
        ...
