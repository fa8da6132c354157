"""What OpenAI's API is asked: requests for chats and completions, checked, as what a policy is told.

Options that would be passed over are refused: an option without effect is worse than an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rlhf.serving.settings import Limits
from rlhf.types import Message

_Stop = Annotated[str, Field(min_length=1, max_length=200)]


class _Request(BaseModel):
    """Options that both kinds of request have."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    stop: tuple[_Stop, ...] = Field(default=(), max_length=16)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int = Field(default=1, ge=1, le=16)
    stream: bool = False
    stream_options: StreamOptions | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=1024)
    user: str | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    @field_validator("presence_penalty", "frequency_penalty", mode="before")
    @classmethod
    def _none_at_all(cls, value: Any) -> Any:
        if value not in (None, 0):
            raise ValueError("penalties are not served; leave it out, or give 0")
        return None

    def asked(self, limits: Limits, wanted_tokens: int | None, **prompt: Any) -> dict[str, Any]:
        """For `Policy.write`; `prompt` is one of `messages`, `text` and `token_ids`."""
        if wanted_tokens is not None and wanted_tokens > limits.max_tokens:
            raise ValueError(f"max_tokens: at most {limits.max_tokens} are written here, given {wanted_tokens}")
        return {
            "messages": None,
            "text": None,
            "token_ids": None,
            "wanted_tokens": wanted_tokens,
            "most_tokens": limits.max_tokens,
            "temperature": 1.0 if self.temperature is None else _warm(self.temperature),
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "stop": self.stop,
            "seed": None if self.seed is None else self.seed % 2**31,
            "logit_bias": self.logit_bias or {},
            **prompt,
        }


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = False


class TextPart(BaseModel):
    """One piece of a message; images and sound are not read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[TextPart, ...]
    name: None = None

    def as_message(self) -> Message:
        """With its pieces joined, as chat templates take it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class ChatRequest(_Request):
    """`POST /v1/chat/completions`."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    def for_policy(self, limits: Limits) -> dict[str, Any]:
        """For `Policy.write`. Raises `ValueError` beyond the limits."""
        messages = tuple(message.as_message() for message in self.messages)
        return self.asked(limits, self.max_completion_tokens or self.max_tokens, messages=messages)


class CompletionRequest(_Request):
    """`POST /v1/completions`: a text is continued as it is, and control tokens spelt in it are control tokens."""

    prompt: str | Annotated[tuple[int, ...], Field(min_length=1)]
    max_tokens: int | None = Field(default=16, ge=1)

    def for_policy(self, limits: Limits) -> dict[str, Any]:
        """For `Policy.write`. Raises `ValueError` beyond the limits."""
        prompt = {"text": self.prompt} if isinstance(self.prompt, str) else {"token_ids": self.prompt}
        return self.asked(limits, self.max_tokens, **prompt)


def _warm(temperature: float) -> float:
    """0, or what every engine can divide by: below 0.01 nothing but the likeliest token is drawn anyway."""
    return 0.0 if temperature < 0.01 else temperature


_Request.model_rebuild()
