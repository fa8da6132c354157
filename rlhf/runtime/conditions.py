"""What a run's last bit depends on beside its recipe, kept in its folder and compared when it is resumed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from rlhf.runtime.checkpoints import package_versions
from rlhf.runtime.engine_choice import chosen_engine
from rlhf.runtime.plan import StagePlan, workers_of
from rlhf.runtime.resumed_recipe import not_bit_for_bit
from rlhf.runtime.threads import at_work, threads_for

FILE_NAME = "conditions.json"


def keep_conditions(plan: StagePlan, *, resumed: bool, strict: bool, way_back: str) -> list[str]:
    """Write the stage's conditions into its folder, and say what is not as it was when a run is resumed, line by line.

    Raises `ConfigError` with all of them where `strict`.
    """
    path, now = plan.folder / FILE_NAME, conditions(plan)
    before = json.loads(path.read_text()) if resumed and path.is_file() else now
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    differing = [f"{name}: {before.get(name, 'none')} -> {now.get(name, 'none')}" for name in names]
    lines = not_bit_for_bit(differing, way_back, strict=strict)
    path.write_text(json.dumps(now, indent=1) + "\n")
    return lines


def conditions(plan: StagePlan) -> dict[str, str]:
    """By name, as text: versions, code, machine, threads, and of each role its processes and what runs it."""
    import torch

    cluster = _cluster(plan)
    found = {**package_versions(), "code": _source()}
    found["CPU instructions"] = torch.backends.cpu.get_cpu_capability()
    found["threads"] = str(_threads(plan, int(cluster.get("CPU", 1))))
    for role, spec in plan.specs.items():
        own = role if plan.samples else plan.trained  # all roles of a supervised stage share its processes
        num = workers_of(plan.runtime, own).num if plan.runtime.type == "ray" else 1
        part = chosen_engine(plan.engine, num, trained=spec.optimizer is not None)
        device = _device(plan, own, cluster)
        options = "".join(f" {key}={value}" for key, value in sorted(part.options.items()))
        found |= {
            f"{role} processes": str(num),
            f"{role} device": device,
            f"{role} engine": f"{part.type}{options}",
            f"{role} dtype": _dtype(spec.model.dtype, device),
            f"{role} attention": spec.model.attention,
        }
    if plan.samples:
        num = workers_of(plan.runtime, "rollout").num if plan.runtime.type == "ray" else 1
        found |= {"rollout processes": str(num), "rollout device": _device(plan, "rollout", cluster)}
    return {name: text for name, text in found.items() if text}


def _threads(plan: StagePlan, cores: int) -> int:
    if plan.runtime.type == "inline":
        return threads_for(plan, cores, 1)
    return threads_for(plan, cores, at_work(plan) if plan.samples else workers_of(plan.runtime, plan.trained).num)


def _cluster(plan: StagePlan) -> dict[str, float]:
    """Ray's resources, or those of this machine in the same words."""
    if plan.runtime.type == "ray":
        import ray

        return dict(ray.cluster_resources())
    import torch

    gpus = {"GPU": 1.0, f"accelerator_type:{torch.cuda.get_device_name()}": 1.0} if torch.cuda.is_available() else {}
    return {"CPU": float(os.cpu_count() or 1), **gpus}


def _device(plan: StagePlan, role: str, cluster: dict[str, float]) -> str:
    if not cluster.get("GPU") or workers_of(plan.runtime, role).gpus == 0:
        return "cpu"
    kinds = sorted(name.partition(":")[2] for name in cluster if name.startswith("accelerator_type:"))
    return ", ".join(kinds) or "gpu"


def _dtype(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "float32" if device == "cpu" else "bfloat16"


def _source() -> str:
    """The commit of the checkout that this package is run from, with `-dirty` where files differ; else nothing."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603 - ours
        return told.stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or not allowed to read it: the version has to do
        return ""
