"""The replica that holds a policy and writes: prompts to tokens, tokens to text, each request by its own sampling."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rlhf.config import ModelConfig, Part
from rlhf.errors import DataError, UserError
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.protocols import Piece
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.engine_choice import built_rollout, vllm_on_gpu
from rlhf.runtime.environment import prepare_environment
from rlhf.runtime.models import encoder_for
from rlhf.serving.answer_text import AnswerText
from rlhf.serving.replica_ports import answer_this_machine_only
from rlhf.serving.writing_loop import WritingLoop, writer_of
from rlhf.types import FinishReason, Prompt, Sampling

Asked = Mapping[str, Any]
"""`messages`, `text` or `token_ids`; `max_tokens` or None; and the options of `Sampling`. Plain data."""
Told = dict[str, Any]
"""`prompt_tokens` first; then `text` with its number of `tokens`; `finish_reason` with the last. Or `refused`: why."""


class Policy:
    """A Ray Serve deployment. A mistake of the user's keeps it from loading, and is told by `describe`."""

    def __init__(self, path: str, engine: Mapping[str, Any], plugins: Mapping[str, Any], gpu_share: float) -> None:
        prepare_environment()
        answer_this_machine_only()
        self._fault: str | None = None
        self._choice: str | None = None
        self._loop: WritingLoop | None = None
        try:
            self._load(path, Part.model_validate(engine), PluginSettings.model_validate(plugins), gpu_share)
        except UserError as error:  # trying again, as Serve would, cannot mend it
            self._fault = str(error)

    def _load(self, path: str, part: Part, settings: PluginSettings, gpu_share: float) -> None:
        model = ModelConfig(path=path)
        self._encoder = encoder_for(model)
        plugins = load_plugins(settings)
        plugins.require_healthy()
        on_gpu = vllm_on_gpu(RuntimeConfig(), gpu_share)
        self._engine, self._choice = built_rollout(part, model, plugins.registry, on_gpu)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reading")  # a tokenizer is for one thread at a time

    async def describe(self) -> dict[str, Any]:
        """What it is, once it is there to be asked; `fault` where it cannot be."""
        writing = 0 if self._loop is None else self._loop.num_waiting
        return {"fault": self._fault, "engine": self._choice, "being_written": writing}

    async def check_health(self) -> None:
        """Asked by Serve, which starts another replica in place of one that fails."""
        if self._loop is not None and self._loop.error is not None:
            raise RuntimeError(self._loop.error)

    async def write(self, asked: Asked) -> AsyncIterator[Told]:
        """One answer, piece by piece; what is not read to its end is not written to its end."""
        self._loop = self._loop or WritingLoop(writer_of(self._engine))
        try:
            prompt, sampling = await asyncio.get_running_loop().run_in_executor(self._reading, self._read, asked)
        except UserError as error:
            yield {"refused": str(error)}
            return
        request = uuid.uuid4().hex
        text = AnswerText(self._encoder.tokenizer, asked["stop"])
        yield {"prompt_tokens": len(prompt.token_ids)}
        self._loop.begin(request, prompt, sampling)
        try:
            reason: FinishReason | None = None
            while reason is None:
                reason, told = _told(await self._loop.pieces(request), text)
                yield told
        finally:
            self._loop.end(request)

    def _read(self, asked: Asked) -> tuple[Prompt, Sampling]:
        """Tokens of the prompt and how to go on. Raises `DataError` where it does not fit."""
        tokens = self._encoder.max_length
        if asked["token_ids"] is None:
            prompt = Prompt(id="request", messages=asked["messages"], text=asked["text"])
            encoded = self._encoder.encode_prompt(prompt)
        else:
            ids = tuple(asked["token_ids"])
            if not ids or max(ids) >= len(self._encoder.tokenizer) or min(ids) < 0:
                raise DataError(f"prompt: token ids from 0 to {len(self._encoder.tokenizer) - 1} are known, at least 1")
            encoded = Prompt(id="request", text="", token_ids=ids)
        room = 0 if encoded is None else tokens - len(encoded.token_ids)
        if encoded is None or room < 1:
            raise DataError(f"the prompt leaves no room for an answer in a context of {tokens} tokens; shorten it")
        if not encoded.token_ids:
            raise DataError("the prompt is empty, and this model's tokenizer has no token to begin a text with")
        if asked["wanted_tokens"] is not None and asked["wanted_tokens"] > room:
            raise DataError(
                f"the prompt has {len(encoded.token_ids)} tokens and max_tokens is {asked['wanted_tokens']}, together "
                f"more than the context of {tokens}; shorten it, or lower max_tokens"
            )
        for token in asked["logit_bias"]:
            if not 0 <= token < len(self._encoder.tokenizer):
                raise DataError(f"logit_bias: there is no token {token}")
        return encoded, Sampling(
            max_tokens=min(asked["wanted_tokens"] or asked["most_tokens"], room),
            temperature=asked["temperature"],
            top_p=asked["top_p"],
            top_k=asked["top_k"],
            min_p=asked["min_p"],
            logit_bias=asked["logit_bias"],
            stop_token_ids=self._encoder.stop_ids,
            seed=secrets.randbits(31) if asked["seed"] is None else asked["seed"],
        )


def _told(pieces: Sequence[Piece], text: AnswerText) -> tuple[FinishReason | None, Told]:
    """What the pieces say, and whether that was all."""
    new, tokens, reason = "", 0, None
    for piece in pieces:
        new += text.read(piece.token_ids)
        tokens += len(piece.token_ids)
        reason = "stop" if text.ended else piece.finish_reason
        if reason is not None:
            new += text.rest()
            break
    told: Told = {"text": new, "tokens": tokens}
    return reason, told | ({} if reason is None else {"finish_reason": reason})
