"""A plan as a page for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from rlhf.planning.duration import Estimate
from rlhf.planning.machine import gigabytes
from rlhf.planning.stage import RoleNeeds, StageNeeds
from rlhf.runtime.origins import DEFAULT, Setting
from rlhf.runtime.preflight import PlanReport, StageReport


def print_page(report: PlanReport, settings: Sequence[Setting], *, all_settings: bool) -> None:
    """Print to standard output, as wide as the terminal."""
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{report.recipe.name}[/] on {report.machine.name}: {report.machine.words()}")
    for stage in report.stages:
        console.print()
        _print_stage(console, stage)
    console.print()
    _print_settings(console, settings, all_settings)


def _print_stage(console: Console, stage: StageReport) -> None:
    needs = stage.needs
    if needs is None:
        console.rule(f"[bold]{stage.name}[/]", align="left")
        _print_lines(console, "refused", stage.refusals, "red")
        return
    console.rule(f"[bold]{stage.name}[/] ({needs.algorithm})", align="left")
    for line in needs.batches.words():
        console.print(line)
    console.print(_roles(needs))
    console.print(_memory(needs))
    for place in stage.places:
        known = f"of {gigabytes(place.available)}" if place.available else "(its size is not known)"
        verdict = "[green]fits[/]" if place.fits else "[red]does not fit[/]"
        console.print(f"{place.name}: at most {gigabytes(place.needed)} {known}, to {place.phase}: {verdict}")
    for line in _cost(stage):
        console.print(line)
    _print_lines(console, "refused", stage.refusals, "red")
    _print_lines(console, "waste", stage.warnings, "yellow")
    _print_lines(console, "would fit", _proposed(stage), "cyan")


def _roles(needs: StageNeeds) -> Table:
    """Who runs where."""
    table = Table(box=None, padding=(0, 2, 0, 0), title="Roles", title_justify="left")
    for heading in ("role", "processes", "on", "engine", "model", "method"):
        table.add_column(heading)
    for role in needs.roles:
        network = role.work.network
        table.add_row(
            role.role,
            str(role.spread.ranks),
            _device(role.share),
            _engine(role),
            f"{_short(network.parameters)} parameters",
            _method(role),
        )
    if needs.rollout is not None:
        rollout = needs.rollout
        table.add_row(
            "rollout",
            str(rollout.workers),
            _device(rollout.share),
            rollout.engine,
            f"{_short(rollout.network.parameters)} parameters",
            f"{rollout.sequences} sequences of {rollout.length}",
        )
    return table


def _device(share: float) -> str:
    return "CPU" if not share else f"{share:g} GPU"


def _engine(role: RoleNeeds) -> str:
    spread = role.spread
    if spread.engine == "torch":
        return "torch"
    offloaded = "+offload" if spread.offload_optimizer or spread.offload_parameters else ""
    return f"ZeRO-{spread.zero_stage}{offloaded}"


def _method(role: RoleNeeds) -> str:
    work = role.work
    how = "frozen" if not work.trains else "full" if work.lora is None else f"LoRA r={work.lora.rank}"
    return f"{how}, {work.compute}" + (", checkpointing" if work.checkpointing else "")


def _memory(needs: StageNeeds) -> Table:
    """Per process, phase by phase, with what it is made of."""
    table = Table(box=None, padding=(0, 2, 0, 0), title="Memory of each process", title_justify="left")
    table.add_column("role")
    table.add_column("to")
    table.add_column("in all", justify="right")
    table.add_column("made of")
    for role in needs.roles:
        for number, phase in enumerate(role.memory.phases):
            parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in phase.device.items() if size >= 5e5)
            offloaded = f"; host {gigabytes(phase.host)}" if phase.host else ""
            table.add_row("" if number else role.role, phase.name, gigabytes(phase.total), parts + offloaded)
    if needs.rollout is not None:
        rollout = needs.rollout
        parts = f"weights {gigabytes(rollout.weights)}, keys and values {gigabytes(rollout.working)}"
        table.add_row("rollout", "generate", gigabytes(rollout.weights + rollout.working), parts)
        buckets = 2 * min(needs.bucket, needs.policy_weights)
        parts = f"object store {gigabytes(needs.policy_weights)}, buckets {gigabytes(buckets)}"
        if needs.processes == "actors":
            table.add_row("", "hand over", gigabytes(needs.policy_weights + buckets), parts)
    return table


def _cost(stage: StageReport) -> Iterator[str]:
    assert stage.needs is not None
    yield f"Arithmetic: {stage.flops / 1e12:,.3g} TFLOP. A checkpoint: {gigabytes(stage.storage)}."
    if stage.estimate is None:
        return
    parts = ", ".join(f"{name} {_time(seconds)}" for name, seconds in stage.estimate.parts.items())
    yield f"Time: {_time(stage.estimate.seconds_per_step)} a step ({parts}), {_time(stage.estimate.seconds)} in all."
    yield f"  ({stage.estimate.how}; {stage.threads} thread{'s' * (stage.threads > 1)} a process)"


def _proposed(stage: StageReport) -> list[str]:
    lines = []
    for proposal in stage.proposals:
        place = proposal.tightest
        lines.append(f"{' '.join(proposal.overrides)}: {gigabytes(place.needed)} of {gigabytes(place.available)}")
    return lines


def _print_lines(console: Console, word: str, lines: Sequence[str], colour: str) -> None:
    for line in lines:
        console.print(f"[{colour}]{word}:[/] {line}")


def _print_settings(console: Console, settings: Sequence[Setting], all_settings: bool) -> None:
    """One line each, by where they come from."""
    shown = [setting for setting in settings if all_settings or setting.origin != DEFAULT]
    console.rule("[bold]settings[/]", align="left")
    for origin in dict.fromkeys(setting.origin for setting in shown):
        console.print(f"[dim]from the {origin}:[/]" if origin != "override" else "[dim]overrides:[/]")
        for setting in shown:
            if setting.origin == origin:
                console.print(f"  {setting.key} = {_value(setting.value)}", markup=False, overflow="fold")
    if len(shown) < len(settings):
        console.print(f"{len(settings) - len(shown)} more are at their defaults (--all shows them)")


def _value(value: Any) -> str:
    """Models of a list by their paths alone."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict) and value.get("path"):
        return str(value["path"])
    return str(value)


def _short(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(int(number))


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.2g} s"


# --- JSON ------------------------------------------------------------------------------------------------------------


def as_json(report: PlanReport, settings: Sequence[Setting]) -> dict[str, Any]:
    """Everything, in bytes, seconds and operations."""
    return {
        "name": report.recipe.name,
        "fits": not report.refusals,
        "machine": asdict(report.machine),
        "peak_flops": report.peak,
        "stages": [_stage_json(stage) for stage in report.stages],
        "settings": {setting.key: {"value": setting.value, "origin": setting.origin} for setting in settings},
    }


def _stage_json(stage: StageReport) -> dict[str, Any]:
    told: dict[str, Any] = {"name": stage.name, "refusals": list(stage.refusals), "warnings": list(stage.warnings)}
    needs = stage.needs
    if needs is None:
        return told
    batches = asdict(needs.batches) | {
        "rows_at_once": needs.batches.rows_at_once,
        "micro_batches": needs.batches.micro_batches,
        "updates": needs.batches.updates,
        "passes": needs.batches.passes,
        "words": needs.batches.words(),
    }
    return told | {
        "algorithm": needs.algorithm,
        "batches": batches,
        "roles": [_role_json(role) for role in needs.roles] + _rollout_json(needs),
        "places": [asdict(place) | {"fits": place.fits} for place in stage.places],
        "proposals": [{"overrides": list(p.overrides), "needed": p.tightest.needed} for p in stage.proposals],
        "flops": stage.flops,
        "checkpoint_bytes": stage.storage,
        "time": None
        if stage.estimate is None
        else asdict(stage.estimate)
        | {"seconds_per_step": stage.estimate.seconds_per_step, "seconds": stage.estimate.seconds},
    }


def _time_json(time: Estimate) -> dict[str, Any]:
    return asdict(time) | {"seconds_per_step": time.seconds_per_step, "seconds": time.seconds}


def _role_json(role: RoleNeeds) -> dict[str, Any]:
    return {
        "role": role.role,
        "processes": role.spread.ranks,
        "gpus_each": role.share,
        "parameters": role.work.network.parameters,
        "method": _method(role),
        "engine": _engine(role),
        "memory": {phase.name: {"device": dict(phase.device), "host": phase.host} for phase in role.memory.phases},
    }


def _rollout_json(needs: StageNeeds) -> list[dict[str, Any]]:
    if needs.rollout is None:
        return []
    rollout = needs.rollout
    memory = {"weights": rollout.weights, "keys and values": rollout.working}
    return [
        {
            "role": "rollout",
            "processes": rollout.workers,
            "gpus_each": rollout.share,
            "parameters": rollout.network.parameters,
            "engine": rollout.engine,
            "memory": {"generate": {"device": memory, "host": 0.0}},
        }
    ]
