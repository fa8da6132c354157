"""Options of the grader and the reward `grounded`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from rlhf import PartConfig
from rlhf_grounded.urls import refuse_unsafe

DEFAULT_COLUMN = "evidence"


class ServiceConfig(PartConfig):
    """A fact service; what it is sent and must answer stands in `rlhf_grounded.service`."""

    url: str
    """Where to POST: https, or http on this machine."""
    timeout: float = Field(default=10.0, gt=0)
    """Seconds a request may take, all in all."""
    token_env: str | None = None
    """Name of the environment variable that holds the service's bearer token."""
    at_once: int = Field(default=8, ge=1, le=64)
    """Requests in flight."""

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        return refuse_unsafe(value)


class GroundedConfig(PartConfig):
    """Options of `grounded`. Evidence comes from one of `documents`, `column` and `service`."""

    documents: tuple[str, ...] = ()
    """Files and folders of .txt, .md and .jsonl (a `text` a line, and maybe its `source`); folders are read whole."""
    column: str | None = None
    """Column of the data that holds the evidence: a text, or a list of texts. `evidence` where no other is named."""
    service: ServiceConfig | None = None
    """A service that is asked for evidence over HTTP."""
    embeddings: str | None = None
    """Folder of an encoder with mean pooling (most sentence-transformers models): `documents` are found by meaning."""
    passages: int = Field(default=3, ge=1, le=50)
    """Passages looked at for each claim."""
    passage_words: int = Field(default=120, ge=20, le=2000)
    """Longest passage, in words; a longer paragraph is cut into windows that overlap by a quarter."""
    judge: dict[str, Any] | None = None
    """A grader (`type` and its options) that decides in place of the rules; see `rlhf_grounded.judged`."""
    not_found: float = Field(default=0.0, ge=-1, le=1)
    """What a claim without support is worth; a supported one is worth 1."""
    contradicted: float = Field(default=-1.0, ge=-1, le=1)
    """What a contradicted claim is worth."""
    no_claims: float | None = Field(default=None, ge=-1, le=1)
    """What a completion without claims is worth; without a value it is not judged."""
    judge_hedges: bool = False
    """Count what is put as mere possibility ("perhaps", "I think") as a claim too, so that hedging is no way out."""

    @field_validator("documents", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("judge", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agree(self) -> GroundedConfig:
        given = [name for name in ("documents", "column", "service") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"evidence comes from one place, given {' and '.join(given)}; name one of them")
        if self.judge is not None and not isinstance(self.judge.get("type"), str):
            raise ValueError("judge wants the `type` of a registered grader")
        if self.embeddings and not self.documents:
            raise ValueError("embeddings is for documents, and none are named")
        if self.contradicted > self.not_found:
            raise ValueError(
                f"a contradicted claim ({self.contradicted}) is worth more than one not found ({self.not_found}); "
                f"lower contradicted"
            )
        return self

    @property
    def evidence_column(self) -> str | None:
        """The column evidence is read from; None where it comes from elsewhere."""
        return None if self.documents or self.service else self.column or DEFAULT_COLUMN
