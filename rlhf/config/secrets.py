"""Secrets: what is taken for one, kept out of what is printed and written, and out of recipes, which are copied.

A part that needs a secret takes the name of an environment variable (`token_env` of `remote`, `api_key_env` of a
judge); libraries that need one read their own variable (`HF_TOKEN`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from rlhf.errors import ConfigError

_NAMES = re.compile(
    r"TOKEN(?!S|IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|AUTH_?KEY", re.IGNORECASE
)
_PLACES = re.compile(r"_(PATH|FILE|DIR|HOME|ENV|NAME|MODE)$", re.IGNORECASE)
"""`RAY_AUTH_TOKEN_PATH` says where a secret lies, and is none."""
_SHORTEST = 6
"""Shorter values are too common to be taken out of a text."""

_IN_ADDRESS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@")
_IN_QUERY = re.compile(
    r"(?i)[?&]([^=&#\s]*(?:token(?!s)|secret|passw|api_?key|access_?key|signature|credential)[^=&#\s]*)=[^&#\s]"
)
_REFERENCE = re.compile(r"\$\{(?:oc\.)?env[:.]")


def secrets_of_environment() -> dict[str, str]:
    """Value -> name of the environment variables that are named like secrets, longest value first."""
    named = {
        value: name
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _NAMES.search(name) and not _PLACES.search(name)
    }
    return dict(sorted(named.items(), key=lambda item: len(item[0]), reverse=True))


def masked(text: str) -> str:
    """The text without the values of environment variables that are named like secrets."""
    for value, name in secrets_of_environment().items():
        text = text.replace(value, f"<{name}>")
    return text


def require_no_secrets(recipe: Any, where: str = "") -> None:
    """`ConfigError` with the place, and never the secret, where a recipe holds one."""
    secrets = {value: name for value, name in secrets_of_environment().items() if not value.isalpha()}  # no mere word
    _look(recipe, where, secrets)


def _look(value: Any, where: str, secrets: Mapping[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _look_at_text(str(key), where or "recipe", secrets)
            _look(inner, f"{where}.{key}" if where else str(key), secrets)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _look(inner, f"{where}.{number}", secrets)
    elif isinstance(value, str):
        _look_at_text(value, where or "recipe", secrets)


def _look_at_text(text: str, where: str, secrets: Mapping[str, str]) -> None:
    way_out = "a recipe is copied into the run's folder: name the variable instead, where the part has an option for it"
    if _REFERENCE.search(text):
        raise ConfigError(
            f"{where}: recipes read no environment variables; a part that needs a secret takes the variable's name "
            "(token_env of `remote`), anything else goes on the command line as key=value"
        )
    held = next((name for value, name in secrets.items() if value in text), None)
    if held is not None:
        raise ConfigError(f"{where}: holds the value of the environment variable {held}; {way_out}")
    if _IN_ADDRESS.search(text):
        raise ConfigError(f"{where}: an address with a password in it; {way_out}")
    if found := _IN_QUERY.search(text):
        raise ConfigError(f"{where}: an address with a secret in its query ({found[1]}); {way_out}")
