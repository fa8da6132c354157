"""How long to wait before asking again."""

from __future__ import annotations

import email.utils
import random
from datetime import UTC, datetime

BASE = 0.5
LONGEST = 30.0


def pause(attempt: int, retry_after: float | None, dice: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0).

    Exponential with full jitter: uniform between 0 and `BASE * 2**attempt`, at most `LONGEST` (Brooker 2015,
    "Exponential Backoff And Jitter"). Where the server named a time, that time and a little more, so that all who were
    told the same do not come back at once.
    """
    if retry_after is not None:
        return retry_after + dice.uniform(0, BASE)
    return dice.uniform(0, min(LONGEST, BASE * 2**attempt))


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds named by a `Retry-After` header, a number or a date (RFC 9110, 10.2.3); None where it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
