"""Secrets of the environment, kept out of what is printed and written."""

from __future__ import annotations

import os
import re

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
_SHORTEST = 6
"""Shorter values are too common to be taken out of a text."""


def masked(text: str) -> str:
    """The text without the values of environment variables that are named like secrets."""
    secrets = {value: name for name, value in os.environ.items() if _SECRET_NAMES.search(name)}
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"<{secrets[value]}>")
    return text
