"""Requests that come and go, written by vLLM, which batches them continuously by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlhf.protocols import Piece
from rlhf.types import FinishReason, Prompt, Sampling


class VLLMWriter:
    """Satisfies `rlhf.protocols.Writer`; `parameters` are vLLM's own for one prompt and its sampling."""

    def __init__(
        self,
        engine: Any,
        parameters: Callable[[Prompt, Sampling], Any],
        adapter: Any,
        end: Callable[[str | None], FinishReason],
    ) -> None:
        self._engine, self._parameters, self._adapter, self._end = engine, parameters, adapter, end

    @property
    def busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def add(self, request: str, prompt: Prompt, sampling: Sampling) -> None:
        tokens = {"prompt_token_ids": list(prompt.token_ids)}
        self._engine.add_request(request, tokens, self._parameters(prompt, sampling), lora_request=self._adapter)

    def drop(self, request: str) -> None:
        self._engine.abort_request([request])

    def step(self) -> list[Piece]:
        pieces = []
        for output in self._engine.step():
            written = output.outputs[0]
            reason = self._end(written.finish_reason) if output.finished else None
            pieces.append(Piece(str(output.request_id), tuple(written.token_ids), reason))
        return pieces
