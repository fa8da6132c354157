"""Regular expressions that give up in time, on whatever text a policy writes.

The standard library's `re` cannot be interrupted: a pattern such as `(a|aa)+$` hangs a process on sixty letters. The
library `regex` (which transformers brings) speaks the same language and takes a time limit.
"""

from __future__ import annotations

from typing import Any


class TimedPattern:
    """A compiled pattern. `TimeoutError` says that a text took longer than `time_limit` seconds."""

    def __init__(self, pattern: str, time_limit: float, *, ignore_case: bool = False) -> None:
        self.pattern = pattern
        self.time_limit = time_limit
        self._compiled = compiled(pattern, ignore_case)

    def is_in(self, text: str) -> bool:
        """Whether it matches some part of the text."""
        return self._try("search", text)

    def is_all_of(self, text: str) -> bool:
        """Whether it matches the text from its first letter to its last."""
        return self._try("fullmatch", text)

    def _try(self, method: str, text: str) -> bool:
        try:
            return getattr(self._compiled, method)(text, timeout=self.time_limit) is not None
        except TimeoutError:
            raise TimeoutError(
                f"the pattern {self.pattern!r} took more than {self.time_limit:g} s on {len(text)} characters"
            ) from None


def compiled(pattern: str, ignore_case: bool = False) -> Any:
    """The pattern, compiled; `ValueError` says what is wrong with it."""
    import regex  # type: ignore[import-untyped]  # here, not above: plugins load quickly

    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    except RecursionError:
        raise ValueError("not a regular expression: its groups are nested too deeply") from None
