"""What a running Ray cluster has, asked once."""

from __future__ import annotations

import ray

from rlhf.planning.machine import Machine
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.session import ray_session

_GIB = 2.0**30
GPU_MEMORY = {
    "T4": 16, "L4": 24, "A10G": 24, "V100": 16, "P100": 16, "L40S": 48, "A100": 40, "A100-40G": 40, "A100-80G": 80,
    "H100": 80, "H20": 96, "H200": 141, "B200": 180, "B300": 288, "GB200": 186, "GB300": 288,
}  # fmt: skip
"""GiB, by the names Ray gives types; the smaller one where a type comes in two sizes."""


def cluster_machine(runtime: RuntimeConfig) -> Machine:
    """All its nodes together. Raises `ResourceError` where none answers."""
    with ray_session(runtime):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    types = {
        key.removeprefix("accelerator_type:") for node in nodes for key in node if key.startswith("accelerator_type:")
    }
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    sizes = [GPU_MEMORY[name] * _GIB for name in types if name in GPU_MEMORY]
    return Machine(
        device="cuda" if gpus else "cpu",
        gpus=gpus,
        gpu_memory=min(sizes) if gpus and len(sizes) == len(types) and sizes else 0.0,
        cores=int(sum(node.get("CPU", 0) for node in nodes)),
        host_memory=sum(node.get("memory", 0.0) + node.get("object_store_memory", 0.0) for node in nodes),
        nodes=len(nodes),
        name=f"the cluster at {runtime.address}",
    )
