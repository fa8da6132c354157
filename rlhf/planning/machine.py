"""What there is to run on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rlhf.planning.spread import Device

OBJECT_STORE = 0.3
"""Share of a node's memory that Ray sets aside for objects, its default."""


@dataclass(frozen=True)
class Machine:
    """A machine, or a cluster taken together."""

    device: Device
    gpus: int
    gpu_memory: float
    """Bytes of the smallest GPU; 0 where there is none or none that is known."""
    cores: int
    host_memory: float
    """Bytes of all nodes."""
    nodes: int = 1
    name: str = "this machine"
    alive: bool = True
    """Whether it has been looked at; else it was described."""

    @property
    def device_memory(self) -> float:
        """Bytes of one device: a GPU, or all of the host's memory."""
        return self.gpu_memory if self.device == "cuda" else self.host_memory

    def words(self) -> str:
        """`2 cores, 25.2 GB of memory, no GPU`."""
        gpus = f"{self.gpus} GPU{'s' * (self.gpus != 1)} of {gigabytes(self.gpu_memory)}" if self.gpus else "no GPU"
        nodes = f"{self.nodes} nodes, " if self.nodes > 1 else ""
        return f"{nodes}{self.cores} cores, {gigabytes(self.host_memory)} of memory, {gpus}"


def local_machine() -> Machine:
    """The one this process is on. A limit of its container counts as its memory."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(gpus)]
    return Machine(
        device="cuda" if gpus else "cpu",
        gpus=gpus,
        gpu_memory=float(min(sizes, default=0)),
        cores=len(os.sched_getaffinity(0)),
        host_memory=float(min(_total_memory(), _container_limit())),
    )


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_limit() -> float:
    """Of control groups, version 2 or 1; infinite where there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        file = Path(path)
        if file.is_file():
            text = file.read_text(encoding="ascii").strip()
            return float(text) if text.isdigit() else float("inf")
    return float("inf")


def gigabytes(size: float) -> str:
    """`25.2 GB`, or megabytes below one."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def parsed_memory(text: str) -> float | None:
    """Bytes of `80GB` or `80 GiB`; None where it is neither."""
    found = re.fullmatch(r"\s*([\d.]+)\s*(G|M|T)(i?)B?\s*", text, re.IGNORECASE)
    if found is None:
        return None
    power = {"M": 2, "G": 3, "T": 4}[found[2].upper()]
    return float(found[1]) * float(1024 if found[3] else 1000) ** power
