"""Generation in plain transformers: samples of many prompts at once, each prompt computed once for all its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import AutoTokenizer

from rlhf.config import ModelConfig
from rlhf.engines.decoder_choice import chosen_decoder
from rlhf.engines.device_memory import move, release
from rlhf.engines.export import held_weights
from rlhf.engines.fingerprints import fingerprints_of
from rlhf.engines.lora import make_room_for_adapters
from rlhf.engines.memory_faults import memory_named
from rlhf.engines.precision import Precision, local_device
from rlhf.engines.pretrained import context_limit, load_causal_lm
from rlhf.engines.prompt_checks import check_prompts, stop_ids_of
from rlhf.engines.sampling import choose, uniforms
from rlhf.engines.settings import TransformersRolloutConfig
from rlhf.engines.stop_strings import StopWatch, text_before_stop
from rlhf.engines.transformers_writer import TransformersWriter
from rlhf.engines.weight_loading import load_strictly
from rlhf.errors import ConfigError, RunError
from rlhf.types import Completion, Fingerprint, Prompt, Sampling

COMPACT_AT = 0.75
"""Finished rows leave the batch when no more than this share of its rows is still running."""


@dataclass
class _Row:
    """One sample being written."""

    prompt: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    watch: StopWatch | None = None


class TransformersRollout:
    """Satisfies `rlhf.protocols.RolloutEngine`; a sample is a function of (seed, prompt id, sample index, weights)."""

    def __init__(self, config: TransformersRolloutConfig, model: ModelConfig) -> None:
        self.config = config
        self.device = local_device()
        self.precision = Precision.of(model, self.device, full_weights=False)
        self.network = load_causal_lm(model, self.precision.storage).requires_grad_(False)
        self.wake()
        self.decoder = chosen_decoder(self.network)
        if model.lora is not None and model.adapters_apart:
            make_room_for_adapters(self.network, model.lora)
        self.limit = context_limit(model, self.network.config)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot load the tokenizer of {model.path!r}: {str(error).splitlines()[0]}") from error
        self.stop_ids = stop_ids_of(self.tokenizer, self.network.generation_config)
        self.version = 0
        self._half_loaded: str | None = None

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`num_samples` completions for each prompt, in order. Raises `DataError` on prompts that do not fit.

        `logprobs` are float32, at the temperature, of the whole distribution.
        """
        answered = dict(ended for ended_at_once in self.stream(prompts, sampling) for ended in ended_at_once)
        return [answered[place] for place in range(len(prompts))]

    @torch.inference_mode()
    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """After every token, the prompts all of whose completions have ended since, by their places."""
        if self._half_loaded:
            raise RunError(f"generation after weights failed to load: {self._half_loaded}")
        check_prompts(prompts, sampling, self.network.config.get_text_config().vocab_size, self.limit)
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].token_ids))
        of_prompt = {
            i: [_Row(i, sample, watch=self._watch(prompts[i], sampling)) for sample in range(sampling.num_samples)]
            for i in by_length
        }
        rows = [row for i in by_length for row in of_prompt[i]]
        writing = Counter(row.prompt for row in rows)
        whole_prompts = self.config.batch_size // sampling.num_samples * sampling.num_samples
        size = whole_prompts or self.config.batch_size
        for start in range(0, len(rows), size):
            version = self.version
            batch = rows[start : start + size]
            for ended in self._remembered(self._write_batch(prompts, batch, sampling), len(batch), sampling):
                writing.subtract(row.prompt for row in ended)
                whole = [i for i in dict.fromkeys(row.prompt for row in ended) if not writing[i]]
                yield [(i, [self._completion(row, version) for row in of_prompt[i]]) for i in whole]

    def _remembered(self, written: Iterator[list[_Row]], num_rows: int, sampling: Sampling) -> Iterator[list[_Row]]:
        """The same, with a word on what there was too little memory for."""
        doing = f"writing {num_rows} completions at once, of up to {sampling.max_tokens} tokens"
        with memory_named("the rollout engine", doing, "rollout.engine.batch_size or rollout.max_tokens"):
            yield from written

    def writer(self) -> TransformersWriter:
        """Writes requests that come and go, up to `batch_size` of them at once."""
        return TransformersWriter(self.network, type(self.decoder), frozenset(self.stop_ids), self.config.batch_size)

    def _watch(self, prompt: Prompt, sampling: Sampling) -> StopWatch | None:
        return StopWatch(self.tokenizer, sampling.stop, prompt.token_ids) if sampling.stop else None

    def _write_batch(self, prompts: Sequence[Prompt], rows: list[_Row], sampling: Sampling) -> Iterator[list[_Row]]:
        """After every token, the rows that have left the batch."""
        stop_ids = self.stop_ids | set(sampling.stop_token_ids)
        samples = Counter(row.prompt for row in rows)
        logits = self.decoder.start([prompts[i].token_ids for i in samples], list(samples.values()))
        draws = torch.stack(
            [uniforms(sampling.seed, prompts[r.prompt].id, r.sample, sampling.max_tokens) for r in rows]
        ).to(self.device)
        stops = torch.tensor(sorted(stop_ids), device=self.device)
        running = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        columns: list[tuple[list[_Row], Tensor, Tensor]] = []
        for step in range(sampling.max_tokens):
            tokens, logprobs = choose(logits, draws[:, step], sampling)
            columns.append((rows, tokens, logprobs))
            running = running & ~torch.isin(tokens, stops)
            if sampling.stop:
                running = running & ~_ended_by_text(rows, tokens)
            num_running = int(running.sum())
            if num_running == 0 or step + 1 == sampling.max_tokens:
                break
            left: list[_Row] = []
            if num_running <= COMPACT_AT * len(rows):
                left = [row for row, runs in zip(rows, running.tolist(), strict=True) if not runs]
                _write(columns, stop_ids)
                columns = []
                kept = running.nonzero().squeeze(1)
                self.decoder.keep(kept)
                rows, running = [rows[i] for i in kept.tolist()], running[kept]
                draws, tokens = draws[kept], tokens[kept]
            yield left
            logits = self.decoder.step(tokens)
        self.decoder.end()
        _write(columns, stop_ids)
        yield rows

    def _completion(self, row: _Row, version: int) -> Completion:
        return Completion(
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            text=self._text(row),
            finish_reason="stop" if row.stopped else "length",
            policy_version=version,
        )

    def _text(self, row: _Row) -> str:
        decoded = str(self.tokenizer.decode(row.tokens, skip_special_tokens=True))
        if row.watch is None or row.watch.ended_at != len(row.tokens):
            return decoded
        return text_before_stop(row.watch.text, decoded)

    @torch.no_grad()
    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        """Replace every weight. Raises `RunError` on a missing, unknown or mis-shaped one; `generate` refuses then."""
        self._half_loaded = f"version {version} was cut short"
        try:
            load_strictly(self.network, weights)
        except RunError as error:
            self._half_loaded = str(error)
            raise
        self._half_loaded = None
        self.version = version

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Of the weights it generates with."""
        return fingerprints_of(held_weights(self.network).items())

    def sleep(self) -> None:
        """Weights wait in CPU memory; no cache outlives `generate`."""
        move(self.network, None, torch.device("cpu"))
        release()

    def wake(self) -> None:
        move(self.network, None, self.device)


def _ended_by_text(rows: Sequence[_Row], tokens: Tensor) -> Tensor:
    """Which rows a stop string ends here, `[B]`; rows that ended before read on in vain."""
    ended = [row.watch is not None and row.watch.read(token) for row, token in zip(rows, tokens.tolist(), strict=True)]
    return torch.tensor(ended, device=tokens.device)


def _write(columns: list[tuple[list[_Row], Tensor, Tensor]], stop_ids: frozenset[int]) -> None:
    """Tokens from the device to the rows, now and then; what a row got after its end is dropped."""
    for rows, tokens, logprobs in columns:
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            if not row.stopped:
                row.tokens.append(token)
                row.logprobs.append(logprob)
                row.stopped = token in stop_ids or (row.watch is not None and row.watch.ended_at == len(row.tokens))
