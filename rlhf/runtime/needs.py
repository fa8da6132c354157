"""A stage of a recipe in the terms of `rlhf.planning`: which work each role does, in how many processes, on what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.config import ModelConfig, Part, RoleSpec
from rlhf.engines.micro_batched import TOKENS_AT_ONCE
from rlhf.errors import ConfigError
from rlhf.planning.batches import Batches, Lengths
from rlhf.planning.machine import Machine
from rlhf.planning.network import SCALAR, Network, network_of, read_config
from rlhf.planning.replica import Format, Work
from rlhf.planning.spread import Spread
from rlhf.planning.stage import Processes, RoleNeeds, RolloutNeeds, StageNeeds
from rlhf.plugins import Plugins
from rlhf.protocols import Algorithm
from rlhf.recipe import Recipe
from rlhf.runtime.engine_choice import chosen_engine
from rlhf.runtime.plan import StagePlan, build_algorithm, build_dataset, stage_folder, workers_of
from rlhf.runtime.row_lengths import row_lengths
from rlhf.runtime.shares import worker_resources
from rlhf.runtime.vocabularies import origin_of

BUCKET_BYTES = 1 << 28
"""As `rlhf.runtime.groups` cuts weights; that module needs Ray."""
_VLLM_GPU = 0.9
_GIB = 2.0**30


def stage_needs(recipe: Recipe, plan: StagePlan, plugins: Plugins, run_folder: Path, machine: Machine) -> StageNeeds:
    """What a stage needs on this machine. Raises `UserError` for what cannot be."""
    algorithm, dataset = build_algorithm(plan.config, plugins), build_dataset(plan.config, plugins)
    own = recipe.stages[plan.name].model
    start = origin_of(recipe, own)
    models = _Models(recipe, run_folder)
    network = models.network(plan.config.model, plan.specs, algorithm)
    limit = _limit(own, network)
    lengths, each = row_lengths(plan, algorithm, dataset, start, limit)
    processes: Processes = "one" if plan.runtime.type == "inline" else "actors" if plan.samples else "ranks"
    ranks = 1 if processes == "one" else workers_of(plan.runtime, plan.trained).num
    batches = _batches(algorithm, plan, lengths, each, dataset.sizes.get(algorithm.consumes, 0), ranks, machine)
    shares = _shares(plan, machine)
    roles = tuple(
        _role(plan, spec, models, batches, machine, shares.get(role, 0.0), 1 if processes == "one" else None)
        for role, spec in plan.specs.items()
    )
    rollout = _rollout(plan, models, batches, machine, shares.get("rollout", 0.0)) if plan.samples else None
    return StageNeeds(
        name=plan.name,
        algorithm=plan.config.algorithm.type,
        roles=roles,
        rollout=rollout,
        batches=batches,
        machine=machine,
        processes=processes,
        colocated=plan.runtime.placement == "colocated",
        bucket=BUCKET_BYTES,
    )


class _Models:
    """Shapes of models by where they come from: a folder, a hub name, or a stage that has not run yet."""

    def __init__(self, recipe: Recipe, run_folder: Path) -> None:
        self._recipe = recipe
        self._stages = {str(stage_folder(recipe, name, run_folder) / "model"): name for name in recipe.stages}

    def network(self, model: ModelConfig, specs: Mapping[str, RoleSpec] | None, algorithm: Algorithm | None) -> Network:
        """Of the stage's own model."""
        scalar = specs is not None and "policy" not in specs
        return self.shapes(model, SCALAR if scalar else algorithm.network if algorithm else "decoder")

    def shapes(self, model: ModelConfig, kind: str) -> Network:
        """Of any model. Raises `ConfigError` where its architecture is unknown."""
        name = self._stages.get(model.path or "")
        if name is not None:
            model = origin_of(self._recipe, self._recipe.stages[name].model)
        if model.new is None:
            assert model.path is not None
            return network_of(read_config(model.path, model.revision), kind, model.path)
        return network_of(_fresh(model), kind, f"the new model of {model.new.hidden_size} x {model.new.num_layers}")


def _fresh(model: ModelConfig) -> Any:
    """Its vocabulary is at most what its tokenizer may have."""
    from rlhf.data.tokenizers import load_tokenizer
    from rlhf.engines.pretrained import new_config

    new = model.new
    assert new is not None
    size = len(load_tokenizer(new.tokenizer.path)) if new.tokenizer.path else new.tokenizer.vocab_size
    return new_config(new, vocab_size=size, bos_token_id=None, eos_token_id=1, pad_token_id=0)


def _limit(model: ModelConfig, network: Network) -> int | None:
    if model.max_length and network.context and model.max_length > network.context:
        raise ConfigError(
            f"model.max_length: {model.max_length} is more than the context of {network.source}, "
            f"{network.context} tokens; lower it"
        )
    limits = [limit for limit in (model.max_length, network.context) if limit]
    return min(limits) if limits else None


def _batches(
    algorithm: Algorithm, plan: StagePlan, lengths: Lengths, each: int, rows: int, ranks: int, machine: Machine
) -> Batches:
    """Counts under the names methods give them; a guest's method may have others, and is taken to train row by row."""
    config: Any = getattr(algorithm, "config", None)
    prompts = getattr(config, "prompts_per_step", None) if plan.samples else None
    samples = (prompts or 0) * int(getattr(config, "samples_per_prompt", 1) or 1)
    per_step = samples or int(getattr(config, "batch_size", 1) or 1)
    budget = plan.engine.options.get("micro_batch_tokens") or TOKENS_AT_ONCE[machine.device]
    return Batches(
        unit="samples" if prompts else "rankings" if each > 1 else "rows",
        rows_each=each,
        per_step=per_step,
        prompts=prompts,
        per_update=min(per_step, int(getattr(config, "minibatch_size", per_step) or per_step)),
        updates_per_step=algorithm.updates_per_step,
        steps=plan.num_steps,
        data_rows=rows,
        ranks=ranks,
        lengths=lengths,
        micro_batch_tokens=int(budget),
    )


def _role(
    plan: StagePlan,
    spec: RoleSpec,
    models: _Models,
    batches: Batches,
    machine: Machine,
    share: float,
    ranks: int | None,
) -> RoleNeeds:
    trains = spec.optimizer is not None
    kind = spec.kind if spec.role in ("policy", "reference") else SCALAR
    workers = ranks or (workers_of(plan.runtime, spec.role if plan.samples else plan.trained).num)
    part = (
        Part(type="torch")
        if plan.runtime.type == "inline" and plan.engine.type == "auto"
        else chosen_engine(plan.engine, workers, trained=trains)
    )
    compute = _compute(spec.model, machine)
    full = trains and spec.model.lora is None
    work = Work(
        network=models.shapes(spec.model, kind),
        rows=batches.rows_at_once,
        width=batches.lengths.longest,
        asked=_asked(batches, scalar=kind == SCALAR),
        weights="float32" if full else compute,
        compute=compute,
        trains=trains,
        lora=spec.model.lora,
        quantised=spec.model.is_quantized,
        checkpointing=spec.model.gradient_checkpointing and trains,
    )
    if work.lora is not None:
        work.network.targets(work.lora)  # refuses layers that are not there
    return RoleNeeds(spec.role, work, _spread(part, workers, machine, batches, share), share)


def _asked(batches: Batches, *, scalar: bool) -> int:
    rows = batches.rows_at_once
    return rows if scalar else max(1, round(rows * batches.lengths.longest * batches.lengths.answer))


def _spread(part: Part, workers: int, machine: Machine, batches: Batches, share: float) -> Spread:
    options = part.options
    deepspeed = part.type == "deepspeed"
    return Spread(
        ranks=workers,
        engine="deepspeed" if deepspeed else "torch",
        zero_stage=int(options.get("zero_stage", 2)) if deepspeed else 0,
        offload_optimizer=bool(options.get("offload_optimizer", False)),
        offload_parameters=bool(options.get("offload_parameters", False)),
        device="cuda" if machine.device == "cuda" and share > 0 else "cpu",
        pieces=batches.micro_batches,
    )


def _compute(model: ModelConfig, machine: Machine) -> Format:
    if model.dtype != "auto":
        return model.dtype
    return "bfloat16" if machine.device == "cuda" else "float32"


def _rollout(plan: StagePlan, models: _Models, batches: Batches, machine: Machine, share: float) -> RolloutNeeds:
    part = plan.config.rollout.engine
    engine = "vllm" if part.type == "vllm" else "transformers"
    size = part.options.get("batch_size", 64) if engine == "transformers" else part.options.get("max_sequences", 256)
    takes = 0.0
    if engine == "vllm":
        own = part.options.get("options", {}).get("gpu_memory_utilization", _VLLM_GPU)
        takes = float(own) if machine.device == "cuda" else part.options.get("cache_gib", 1) * _GIB
    return RolloutNeeds(
        engine=engine,
        network=models.shapes(plan.config.model, "decoder"),
        format=_compute(plan.config.model, machine),
        workers=1 if plan.runtime.type == "inline" else workers_of(plan.runtime, "rollout").num,
        share=share,
        sequences=min(int(size), batches.per_step),
        length=batches.lengths.longest,
        takes=takes,
    )


def _shares(plan: StagePlan, machine: Machine) -> dict[str, float]:
    """GPUs of each worker of each role. Raises `ResourceError` where there are not enough processes' worth."""
    roles = (*plan.specs, "rollout") if plan.samples else (plan.trained,)
    if plan.runtime.type == "inline":
        return dict.fromkeys((*plan.specs, "rollout"), 1.0 if machine.gpus else 0.0)
    cluster = {"CPU": float(machine.cores), "GPU": float(machine.gpus)}
    given = {role: share.get("GPU", 0.0) for role, share in worker_resources(plan.runtime, roles, cluster).items()}
    return given if plan.samples else dict.fromkeys(plan.specs, given[plan.trained])
