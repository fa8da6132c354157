"""Secrets of the environment, kept out of what is printed and written."""

from __future__ import annotations

from rlhf.config.secrets import secrets_of_environment


def masked(text: str) -> str:
    """The text without the values of environment variables that are named like secrets."""
    for value, name in secrets_of_environment().items():
        text = text.replace(value, f"<{name}>")
    return text
