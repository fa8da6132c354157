"""The rows of a data set that cannot be used: how many, which, and when they are too many to go on without."""

from __future__ import annotations

from rlhf.errors import DataError

_SHOWN = 10
"""Places an error or a warning names; the rest are counted."""


class BadRows:
    """Counts all faults and keeps the first ones with their places."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: list[str] = []
        self.count = 0

    def add(self, where: str, fault: str) -> None:
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"{where}: {fault}")

    def refuse(self, num_rows: int, max_rate: float) -> None:
        """Raise `DataError` where the share of bad rows among all that were read is above `max_rate`."""
        if self.count > max_rate * num_rows:
            limit = "" if max_rate == 0 else f", more than max_bad_rate {max_rate:g}"
            way_out = "Mend them, or set on_bad_row: skip" if max_rate == 0 else "Mend them, or raise max_bad_rate"
            raise DataError(f"{self._name}: {self.told(num_rows)}{limit}. {way_out}.")

    def told(self, num_rows: int) -> str:
        """`2 of 9 rows are bad: a.jsonl, line 3: .. ; a.jsonl, line 7: ..`, in one line."""
        more = self.count - len(self._shown)
        rest = [f"and {more} more"] if more else []
        return f"{self.count} of {num_rows} rows are bad: {'; '.join([*self._shown, *rest])}"
