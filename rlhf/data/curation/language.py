"""Which language a text is in, by py3langid (97 languages, a model of 4 MB inside the package, no network)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from rlhf.errors import DataError

UNKNOWN = "und"
"""ISO 639's word for a text too short to tell."""
_FEWEST_LETTERS = 20
_MOST_LETTERS = 400
"""More letters change the verdict hardly ever and cost time."""


def is_installed() -> bool:
    """Whether languages can be told here."""
    return importlib.util.find_spec("py3langid") is not None


def require_installed(option: str) -> None:
    """Raise `DataError` naming the package that `option` needs."""
    if not is_installed():
        raise DataError(f"{option} needs the package `py3langid`: pip install 'rlhf[curate]'.")


def language_of(texts: Sequence[str]) -> str:
    """The ISO 639-1 code of the longest of the texts, or `und` where it has too few letters to tell."""
    import py3langid  # type: ignore[import-untyped]  # it has no types

    longest = max(texts, key=len, default="")[:_MOST_LETTERS]
    letters = sum(map(str.isalpha, longest))
    # A letter of a script without spaces is a word.
    if letters < _FEWEST_LETTERS and longest.isascii():
        return UNKNOWN
    return str(py3langid.classify(longest)[0]) if letters >= 4 else UNKNOWN


def known_languages() -> list[str]:
    """Codes that can be told."""
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return sorted(LanguageIdentifier.from_modelpath(MODEL_DIR / MODEL_FILE).labels)
