"""What a stage needs of the devices it runs on, and where that is more than there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rlhf.planning.batches import Batches
from rlhf.planning.machine import OBJECT_STORE, Machine, gigabytes
from rlhf.planning.memory import RoleMemory, memory_of
from rlhf.planning.network import Network
from rlhf.planning.replica import Format, Work
from rlhf.planning.spread import BYTES, Spread

LIBRARIES = 0.6e9
"""Of a process that has torch and transformers, before it holds anything."""
CONTEXT = 0.6e9
"""Of a process on a GPU: CUDA's own, and the workspaces of its products."""

Processes = Literal["one", "actors", "ranks"]
"""All roles in one process; each worker of each role in its own; or every role in each of a group of ranks."""


@dataclass(frozen=True)
class RoleNeeds:
    """A role that reads tokens."""

    role: str
    work: Work
    """The fullest micro-batch."""
    spread: Spread
    share: float = 0.0
    """GPUs of each worker."""
    key: str = "model"
    """Where the recipe speaks of its model."""

    @property
    def memory(self) -> RoleMemory:
        """Of each worker."""
        return memory_of(self.work, self.spread)

    @property
    def still(self) -> float:
        """Bytes held while others are at work."""
        return self.memory.phases[1].total - self.memory.phases[1].device["activations"]


@dataclass(frozen=True)
class RolloutNeeds:
    """The role that writes tokens."""

    engine: str
    network: Network
    format: Format
    workers: int
    share: float
    sequences: int
    """Written at once."""
    length: int
    """Tokens of a prompt and its answer at most."""
    takes: float = 0.0
    """vLLM: bytes it reserves for keys and values on a CPU, or its share of a GPU's memory, whatever it needs."""

    @property
    def weights(self) -> float:
        """Bytes."""
        return float(self.network.parameters * BYTES[self.format])

    @property
    def sequence(self) -> float:
        """Bytes of keys and values of one sequence."""
        return float(self.network.cache_entries * BYTES[self.format] * self.length)

    @property
    def working(self) -> float:
        """Bytes beside the weights: keys and values, and the logits of one token for each sequence, twice."""
        if self.engine == "vllm" and self.takes > 1:
            return self.takes
        return self.sequences * (self.sequence + 2 * 4 * self.network.vocabulary)


@dataclass(frozen=True)
class StageNeeds:
    """A stage on a machine."""

    name: str
    algorithm: str
    roles: tuple[RoleNeeds, ...]
    rollout: RolloutNeeds | None
    batches: Batches
    machine: Machine
    processes: Processes
    colocated: bool = False
    bucket: float = 0.0
    """Bytes of weights that travel at a time in a hand-over."""

    @property
    def policy_weights(self) -> float:
        """Bytes of what a hand-over carries."""
        return self.rollout.weights if self.rollout else 0.0

    @property
    def checkpoint(self) -> float:
        """Bytes of a checkpoint: trained weights and both moments of each role, and of the finished model."""
        from rlhf.planning.spread import trained_parameters

        return 12.0 * sum(trained_parameters(role.work) for role in self.roles)


@dataclass(frozen=True)
class Place:
    """A device, or the memory of the host, in its busiest phase."""

    name: str
    needed: float
    available: float
    phase: str
    parts: tuple[tuple[str, float], ...]

    @property
    def fits(self) -> bool:
        """Unknown sizes are not refused."""
        return not self.available or self.needed <= self.available

    def words(self) -> str:
        """One line of what does not fit, largest parts first."""
        parts = ", ".join(f"{who} {gigabytes(size)}" for who, size in sorted(self.parts, key=lambda p: -p[1])[:4])
        return f"{gigabytes(self.needed)} needed to {self.phase} ({parts}), {self.name} has {gigabytes(self.available)}"


def places(needs: StageNeeds) -> list[Place]:
    """The busiest of each kind of device, and the host."""
    host = _busiest(needs, "the host" if needs.machine.device == "cuda" else needs.machine.name, None)
    if needs.machine.device == "cpu":
        return [host]
    return [*_gpus(needs), host]


def _gpus(needs: StageNeeds) -> Iterator[Place]:
    """One place for all roles that share a GPU, and one for each that has its own."""
    size = needs.machine.gpu_memory
    everyone = [role.role for role in needs.roles] + (["rollout"] if needs.rollout else [])
    shares = {role.role: role.share for role in needs.roles} | (
        {"rollout": needs.rollout.share} if needs.rollout else {}
    )
    on_gpu = [who for who in everyone if shares[who] > 0]
    if needs.processes != "actors" or needs.colocated:
        if on_gpu:
            yield _busiest(needs, "each GPU", on_gpu, size)
        return
    for who in (who for who in on_gpu if shares[who] >= 1):
        yield _busiest(needs, f"a GPU of the {who}", [who], size)
    parts = [who for who in on_gpu if shares[who] < 1]
    if parts:
        yield _busiest(needs, f"a GPU shared by {', '.join(parts)}", parts, size)


def _busiest(needs: StageNeeds, name: str, on_gpu: list[str] | None, size: float = 0.0) -> Place:
    """Over all phases; `on_gpu` None: what lies in the host's memory."""
    phases = {
        phase: tuple(_parts(needs, phase, on_gpu)) for phase in ("load", "generate", "score", "train", "hand over")
    }
    phase = max(phases, key=lambda p: sum(amount for _, amount in phases[p]))
    return Place(
        name=name,
        needed=sum(amount for _, amount in phases[phase]),
        available=needs.machine.host_memory if on_gpu is None else size,
        phase=phase,
        parts=phases[phase],
    )


def _parts(needs: StageNeeds, phase: str, on_gpu: list[str] | None) -> Iterator[tuple[str, float]]:
    """Who holds how much in a phase, in one place."""
    working = []
    for role in needs.roles:
        here = (on_gpu is None) == (role.share == 0)
        if on_gpu is not None and role.role not in on_gpu:
            continue
        if on_gpu is None and not here:
            yield f"{role.role}, offloaded", role.memory.host * role.spread.ranks
            continue
        many = role.spread.ranks if on_gpu is None else 1
        asleep = needs.colocated and role.spread.engine == "torch" and on_gpu is not None
        still = role.still * many
        extra = max(0.0, _in_phase(role, phase) - role.still) * many
        if asleep:
            working.append((role.role, still + extra))
        else:
            yield role.role, still
            working.append((f"{role.role}, {phase}", extra))
    if needs.rollout is not None and (on_gpu is None) == (needs.rollout.share == 0):
        yield from _of_rollout(needs.rollout, phase, on_gpu)
    together = needs.processes == "actors" and not needs.colocated
    yield from working if together else [max(working, key=lambda pair: pair[1])] if working else []
    yield from _of_processes(needs, phase, on_gpu)


def _in_phase(role: RoleNeeds, phase: str) -> float:
    of_role = {p.name: p.total for p in role.memory.phases}
    if phase == "train":
        return max(of_role.get("train", 0.0), of_role.get("update", 0.0))
    return of_role.get(phase, 0.0)


def _of_rollout(rollout: RolloutNeeds, phase: str, on_gpu: list[str] | None) -> Iterator[tuple[str, float]]:
    if on_gpu is not None and "rollout" not in on_gpu:
        return
    many = rollout.workers if on_gpu is None else 1
    yield "rollout", rollout.weights * many
    if phase == "generate" or rollout.engine == "vllm":
        yield "keys and values", rollout.working * many


def _of_processes(needs: StageNeeds, phase: str, on_gpu: list[str] | None) -> Iterator[tuple[str, float]]:
    """Libraries, and weights on their way through the object store."""
    if on_gpu is not None:
        yield "CUDA", CONTEXT * (1 if needs.processes != "actors" else len(on_gpu))
        return
    workers = [role.spread.ranks for role in needs.roles]
    count = {"one": 1, "ranks": max(workers, default=1) + 1}.get(
        needs.processes, sum(workers) + (needs.rollout.workers if needs.rollout else 0) + 1
    )
    yield "libraries", LIBRARIES * count
    if phase == "hand over" and needs.processes == "actors" and needs.rollout is not None:
        yield "object store", needs.policy_weights
        yield "buckets", 2 * min(needs.bucket, needs.policy_weights)


def object_store(machine: Machine) -> float:
    """Bytes Ray sets aside; what is more is written to disk."""
    return OBJECT_STORE * machine.host_memory
