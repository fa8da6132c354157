"""The clean process a plugin is checked in: `python -m rlhf.testing.checked_process`, with a `Request` on its input.

It writes one JSON object a line: `{"start": ...}` before each check and a finding after it, so that whoever started it
knows which check was running when the plugin hung, or ended the process.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy
from pydantic import Field

from rlhf import PartConfig, hookspecs
from rlhf.errors import PluginError, UserError, nearest
from rlhf.plugins import BUILT_INS, ENTRY_POINT_GROUP, PluginInfo, Plugins, PluginSettings, load_plugins
from rlhf.registry import Entry
from rlhf.runtime.environment import prepare_environment
from rlhf.testing.building import build_judge
from rlhf.testing.checks import answers_of, part_findings
from rlhf.testing.findings import Check, Finding, Skipped, fail, run_checks
from rlhf.testing.footprints import Settings, captured_stdout, require_quiet
from rlhf.testing.part_options import missing_options, option_checks
from rlhf.testing.rows import read_probes
from rlhf.testing.verdicts import Judge
from rlhf.types import Rollout

_HEAVY = ("torch", "ray", "transformers", "deepspeed", "vllm", "sklearn", "scipy", "pandas", "datasets", "tensorflow")


class Request(PartConfig):
    """Which plugin to check, and how."""

    path: str | None = None
    """FILE.py or FILE.py:FUNCTION."""
    name: str | None = None
    """The plugin's name, where it is not a file."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    data: str | None = None
    parts: tuple[str, ...] | None = None
    """Check these alone ("reward kindness"), and not the plugin as a whole; all where absent."""
    answers_only: bool = False
    """Check nothing: answer, so that another process's answers can be compared."""


class Reporter:
    """Writes what happens, a line each, past whatever the plugin does to standard output."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")

    def write(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def checks(self, part: str, checks: Sequence[Check]) -> bool:
        """Run and report; whether all went well."""
        findings = self.told(run_checks(part, checks, partial(self.starts, part)))
        return all(finding.outcome != "failed" for finding in findings)

    def starts(self, part: str, check: str) -> None:
        self.write({"start": check, "part": part})

    def told(self, findings: Iterable[Finding]) -> list[Finding]:
        """Report each as it comes."""
        found = []
        for finding in findings:
            self.write({"finding": asdict(finding)})
            found.append(finding)
        return found


def main() -> None:
    """Check what standard input asks for."""
    reporter = Reporter()
    request = Request.model_validate_json(sys.stdin.read())
    os.dup2(2, 1)
    try:
        _check(request, reporter)
    except UserError as error:
        reporter.write({"refused": str(error)})
    reporter.write({"done": True})
    os._exit(0)  # whatever threads a plugin has left running


def _check(request: Request, reporter: Reporter) -> None:
    if request.parts is None and not _check_loading(request, reporter):
        return
    plugins, info = _load(request)
    entries = [entry for entry in plugins.registry.entries() if entry.owner == info.name]
    if request.path and ".py:" in request.path:
        entries = [entry for entry in entries if entry.name == request.path.partition(".py:")[2]]
    for name in request.options:
        if name not in (entry.name for entry in entries):
            known = sorted({entry.name for entry in entries})
            raise PluginError(f"{info.name} has no part {name!r}.{nearest(name, known)} Parts: {', '.join(known)}.")
    if request.parts is None:
        reporter.write({"parts": [_label(entry) for entry in entries]})
    rows = read_probes(Path(request.data)) if request.data is not None else None
    for entry in entries:
        if request.parts is None or _label(entry) in request.parts:
            options = _options_of(entry, entries, request.options)
            build = partial(_build, plugins, entry, options)
            if request.answers_only or _is_judged(entry, options, build, rows, reporter):
                reporter.write({"part": _label(entry), "answers": answers_of(build, rows)})


def _label(entry: Entry) -> str:
    return f"{entry.kind} {entry.name}"


# --- the plugin as a whole -------------------------------------------------------------------------------------------


def _check_loading(request: Request, reporter: Reporter) -> bool:
    """Whether it loads. Its module is imported before the built-in ones, so that what it loads is seen as its own."""
    prepare_environment()  # a run does it before any plugin is loaded
    settings = Settings()
    loaded: list[Plugins] = []
    loading: list[Check] = [("loads", partial(_loads, request, loaded))]
    if request.name is not None:
        loading = [*_importing(request.name), *loading]
    with captured_stdout() as output:
        sound = reporter.checks("plugin", loading)
    if not sound:
        return False
    _, info = _load(request)
    checks: list[Check] = [
        ("hooks", partial(_hooks, loaded[0], info)),
        ("quiet on loading", partial(require_quiet, output)),
        ("settings on loading", settings.require_unchanged),
    ]
    reporter.checks("plugin", checks)
    return True


def _importing(name: str) -> list[Check]:
    """The check of its import, none for a built-in. Raises `PluginError` where there is no plugin of this name."""
    point = next((point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name), None)
    if point is not None:
        return [("imports", partial(_import, point))]
    own = [module.split(".")[1] for module in BUILT_INS]
    if name not in own:
        known = sorted({*own, *entry_points(group=ENTRY_POINT_GROUP).names})
        raise PluginError(f"no plugin is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    return []


def _import(point: EntryPoint) -> str:
    """Import its module while nothing heavy is loaded, and say how long it took."""
    before = set(sys.modules)
    started = time.perf_counter()
    point.load()
    seconds = time.perf_counter() - started
    heavy = [name for name in _HEAVY if name in sys.modules and name not in before]
    if heavy:
        fail(f"importing {point.value} loads {', '.join(heavy)}, and every command waits for it: import it where used")
    return f"{1000 * seconds:.0f} ms"


def _load(request: Request) -> tuple[Plugins, PluginInfo]:
    """All plugins, and the one in question."""
    plugins = load_plugins(PluginSettings(paths=(request.path,) if request.path else ()))
    if request.path:
        return plugins, plugins.infos[-1]
    return plugins, next(info for info in plugins.infos if info.name == request.name)


def _loads(request: Request, loaded: list[Plugins]) -> str:
    plugins, info = _load(request)
    if info.error:
        fail(info.error)
    if not info.hooks and not info.parts:
        fail("it adds nothing: no function has @hookimpl; a lone reward is named as FILE.py:FUNCTION")
    loaded.append(plugins)
    return ", ".join([*info.parts, *(hook for hook in info.hooks if not hook.startswith("register_"))])


def _hooks(plugins: Plugins, info: PluginInfo) -> str:
    """Names and arguments were checked on loading; what is left are hooks nobody will ever call."""
    module: Any = plugins.manager.get_plugin(info.name)
    specs = pluggy.PluginManager(hookspecs.PROJECT)
    specs.add_hookspecs(hookspecs)
    known = {name for name in vars(specs.hook) if not name.startswith("_")}
    for name, value in vars(module).items() if module is not None else ():
        if name in known and inspect.isfunction(value) and not hasattr(value, f"{hookspecs.PROJECT}_impl"):
            fail(f"{name} is a function without @hookimpl: it is never called")
    return ", ".join(info.hooks)


# --- its parts -------------------------------------------------------------------------------------------------------


def _is_judged(
    entry: Entry, options: dict[str, Any], build: Callable[[], Judge], rows: list[Rollout] | None, reporter: Reporter
) -> bool:
    """Check one part; whether it is a reward or a grader that gave answers, and kept the contract."""
    label = _label(entry)
    if not reporter.checks(label, option_checks(entry, options)):
        return False
    if entry.kind not in ("reward", "grader") or missing_options(entry.config, options):
        return False
    findings = reporter.told(part_findings(label, build, rows, partial(reporter.starts, label)))
    answered = any(finding.check == "answers" and finding.outcome == "ok" for finding in findings)
    return answered and all(finding.outcome != "failed" for finding in findings)


def _build(plugins: Plugins, entry: Entry, options: dict[str, Any]) -> Judge:
    try:
        return build_judge(plugins.registry, entry, options)
    except UserError as error:
        if options:
            raise
        raise Skipped(f"it asks for more than its defaults: {error}") from None


def _options_of(entry: Entry, entries: Sequence[Entry], options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Those given for its name, less those that only a part of another kind and this name can mean."""
    namesakes = [other for other in entries if other.name == entry.name and other.kind != entry.kind]
    elsewhere = {name for other in namesakes if other.config is not None for name in other.config.model_fields}
    mine = entry.config or entry.options
    own = mine.model_fields if mine is not None else {}
    given = options.get(entry.name, {})
    return {name: value for name, value in given.items() if name in own or name not in elsewhere}


if __name__ == "__main__":
    main()
