"""What is wasted, in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rlhf.planning.machine import gigabytes
from rlhf.planning.spread import weight_bytes
from rlhf.planning.stage import RoleNeeds, StageNeeds, object_store, places

_ROOMY = 0.6
"""A device filled no further than this has room for the activations that checkpointing computes again."""
_MANY_PASSES = 20
_WORTH_SAYING = 1e9


def warnings(needs: StageNeeds) -> Iterator[str]:
    """Of a stage that fits."""
    machine, batches = needs.machine, needs.batches
    used = sum(role.share * role.spread.ranks for role in needs.roles)
    used += needs.rollout.share * needs.rollout.workers if needs.rollout else 0.0
    if machine.gpus and used < machine.gpus - 1e-6 and needs.processes != "one":
        yield f"{machine.gpus - used:g} of {machine.gpus} GPUs have nothing to do; raise runtime.workers.ROLE.num"
    if batches.per_update < batches.ranks:
        yield f"{batches.per_update} {batches.unit} in an optimizer step for {batches.ranks} processes: some only wait"
    for role in needs.roles:
        yield from _of_spread(role)
    if any(role.work.checkpointing for role in needs.roles) and _roomy_without_checkpointing(needs):
        yield "gradient_checkpointing computes every layer twice, and the memory would do without it; leave it out"
    if batches.passes > _MANY_PASSES:
        yield f"the data is seen {batches.passes:,.0f} times; more data or fewer steps would do as much"
    if needs.rollout and needs.rollout.engine == "vllm" and needs.rollout.takes > 1:
        wanted = needs.rollout.sequences * needs.rollout.sequence
        if needs.rollout.takes > 4 * wanted:
            kept = gigabytes(needs.rollout.takes)
            yield f"vLLM keeps {kept} for keys and values, and can use {gigabytes(wanted)}; lower cache_gib"
    if needs.processes == "actors" and needs.policy_weights > object_store(machine) > 0:
        yield (
            f"a hand-over carries {gigabytes(needs.policy_weights)}, Ray's object store has "
            f"{gigabytes(object_store(machine))}: the rest goes through the disk"
        )


def _of_spread(role: RoleNeeds) -> Iterator[str]:
    alone = role.spread.zero_stage > 0 and role.spread.ranks == 1 and role.work.trains
    if alone and weight_bytes(role.work) > _WORTH_SAYING:
        yield (
            f"ZeRO stage {role.spread.zero_stage} in one process of the {role.role} spreads nothing and keeps the "
            "weights twice; use engine: torch"
        )
    if role.spread.offload_optimizer and role.spread.device == "cpu":
        yield "offload_optimizer moves nothing where there is no GPU; leave it out"


def _roomy_without_checkpointing(needs: StageNeeds) -> bool:
    plain = replace(
        needs, roles=tuple(replace(role, work=replace(role.work, checkpointing=False)) for role in needs.roles)
    )
    return all(place.available and place.needed < _ROOMY * place.available for place in places(plain))
