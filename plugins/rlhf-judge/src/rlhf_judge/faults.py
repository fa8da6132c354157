"""What can go wrong with one question, in one line. Needs no client library."""

from __future__ import annotations

SHOWN = 80


class Unreadable(Exception):
    """An answer that holds no verdict, or one out of bounds; says which."""


class Fault(Exception):
    """A request failed.

    `transient`: asking again may help, after `retry_after` seconds where the server named a time. `for_everyone`: it
    says nothing of this row; as long as nobody was answered, the next row would meet the same.
    """

    def __init__(
        self, message: str, *, transient: bool = False, for_everyone: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.for_everyone = for_everyone
        self.retry_after = retry_after


def excerpt(text: str, *, end: bool = False) -> str:
    """The first (or last) 80 characters of a text on one line, quoted; control characters and white space shrink."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not line:
        return "nothing"
    if len(line) <= SHOWN:
        return repr(line)
    return f"...{line[-SHOWN:]!r}" if end else f"{line[:SHOWN]!r}..."
