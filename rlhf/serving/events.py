"""Server-sent events: one JSON object each, as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from rlhf.serving.refusals import Refusal

DONE = "[DONE]"
"""Ends a stream of OpenAI's API."""


class EventStream(StreamingResponse):
    """A response of events. What goes wrong after it began is its last event, under `error`."""

    def __init__(self, events: AsyncIterator[dict[str, Any] | str]) -> None:
        # Proxies that buffer would make one piece of it.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_lines(events), media_type="text/event-stream", headers=headers)


def event(value: dict[str, Any] | str) -> str:
    """One event as it is sent."""
    return f"data: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n\n"


async def _lines(events: AsyncIterator[dict[str, Any] | str]) -> AsyncIterator[str]:
    try:
        async for value in events:
            yield event(value)
    except Refusal as refusal:
        yield event(refusal.body())
