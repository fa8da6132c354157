"""`language:*`: the language of a response, by langdetect, with a fixed seed: one text, one answer."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

from pydantic import field_validator

from rlhf.errors import nearest
from rlhf_ifeval.instruction import Instruction, Phrase

if TYPE_CHECKING:
    from langdetect import DetectorFactory  # type: ignore[import-untyped]

SEED = 0
LOOKED_AT = 50_000
"""Characters; langdetect itself reads the first 10,000 that are left once addresses are out."""


class ResponseLanguage(Instruction):
    """The whole response is in this language: an ISO 639-1 code that langdetect knows. `zh` takes either script."""

    id: ClassVar[str] = "language:response_language"
    language: Phrase

    @field_validator("language")
    @classmethod
    def _known(cls, language: str) -> str:
        known = known_languages()
        if language not in known:
            raise ValueError(f"langdetect knows no language of that code.{nearest(language, known)}")
        return language

    def followed(self, text: str) -> bool:
        language = detected(text)
        return language is not None and self.language in (language, language.partition("-")[0])


def known_languages() -> list[str]:
    """Codes that may be asked for."""
    return sorted({*_factory().get_lang_list(), "zh"})


def detected(text: str) -> str | None:
    """The likeliest language; None where nothing tells it, such as digits alone."""
    from langdetect import LangDetectException

    detector = _factory().create()
    detector.append(text[:LOOKED_AT])
    try:
        language = detector.detect()
    except LangDetectException:
        return None
    return None if language == detector.UNKNOWN_LANG else language


@cache
def _factory() -> DetectorFactory:
    """One of our own: langdetect's global one may be seeded otherwise by whoever else is in this process."""
    from langdetect import DetectorFactory
    from langdetect.detector_factory import PROFILES_DIRECTORY  # type: ignore[import-untyped]

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(SEED)
    return factory
