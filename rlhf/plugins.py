"""Find, load and list plugins: built-ins, then installed packages, then one-file plugins.

Every process loads the same plugins from the same plain settings; `fingerprints` lets the driver check that a worker
did. One that fails to load is kept with its error: a run refuses (`require_healthy`), `plugins.disable` is the way out.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from rlhf import hookspecs
from rlhf.config import RESERVED_OPTIONS, PartConfig
from rlhf.config.function_options import function_options
from rlhf.errors import PluginError, nearest
from rlhf.plugin_faults import in_one_line
from rlhf.protocols import Dataset
from rlhf.registry import Entry, Kind, Registry

BUILT_INS = (
    "rlhf.algorithms.registration",
    "rlhf.data.registration",
    "rlhf.engines.registration",
    "rlhf.pocket.registration",
    "rlhf.rewards.registration",
    "rlhf.runtime.registration",
    "rlhf.tracking.registration",
)
ENTRY_POINT_GROUP = "rlhf"
BUILT_IN = "built-in"

_REGISTER_HOOKS: dict[str, Kind] = {
    "register_rewards": "reward",
    "register_graders": "grader",
    "register_datasets": "dataset",
    "register_algorithms": "algorithm",
    "register_train_engines": "train_engine",
    "register_rollout_engines": "rollout_engine",
    "register_trackers": "tracker",
}


class PluginSettings(PartConfig):
    """Which plugins a run loads; plain data, so that every worker loads the same."""

    paths: tuple[str, ...] = ()
    """One-file plugins: `FILE.py`, or `FILE.py:FUNCTION` for a file that holds just a reward function."""
    disable: tuple[str, ...] = ()
    """Names of plugins (as `rlhf plugins list` shows them) to leave out."""


@dataclass(frozen=True)
class PluginInfo:
    """A plugin as found: what it is, what it adds, or why it could not be loaded."""

    name: str
    origin: str  # "built-in", "package NAME VERSION" or the file's path
    digest: str = ""  # of its version or its file's contents
    hooks: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # "reward brevity", ...
    error: str | None = None
    disabled: bool = False

    @property
    def is_built_in(self) -> bool:
        return self.origin == BUILT_IN

    @property
    def distribution(self) -> str | None:
        """The installed package it is of."""
        return self.origin.split()[1] if self.origin.startswith("package ") else None


@dataclass
class Plugins:
    """The plugins of this process, the parts they registered and the hooks they implement."""

    manager: pluggy.PluginManager
    registry: Registry
    infos: list[PluginInfo] = field(default_factory=list)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    """Data sets built in this process, by their options as JSON."""
    settings: PluginSettings = field(default_factory=PluginSettings)
    """What they were loaded by, for other processes to load the same."""
    named: set[str] = field(default_factory=set)
    """Plugins named as FILE.py:FUNCTION, which what names them cannot do without."""

    @property
    def hook(self) -> Any:
        """The hook relay; `plugins.hook.on_step_end(step=..., metrics=...)`."""
        return self.manager.hook

    def require_healthy(self) -> None:
        """Raise `PluginError` for the first plugin that could not be loaded."""
        for info in self.infos:
            if info.error:
                stop = "" if info.error.endswith((".", "?")) else "."
                way_out = "" if info.name in self.named else f", or leave it out with plugins.disable: [{info.name}]"
                raise PluginError(
                    f"plugin {info.name!r} ({info.origin}) cannot be loaded: {info.error}{stop} Mend it{way_out}"
                )

    def fingerprints(self, *, guests_only: bool = False) -> dict[str, str]:
        """What must agree between the driver and every worker: plugin name -> digest of its code and parts."""
        live = [info for info in self.infos if not info.disabled and not (guests_only and info.is_built_in)]
        return {i.name: _digest(f"{i.digest} {i.hooks} {i.parts} {i.error or ''}") for i in live}


def load_plugins(settings: PluginSettings | None = None, *, built_ins: Sequence[str] = BUILT_INS) -> Plugins:
    """Load everything and return it; never raises for a broken plugin, only for one that was asked for in vain.

    `built_ins`: a process that needs few of them starts sooner; what to disable is then checked by whoever started it.
    """
    settings = settings or PluginSettings()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, Registry(), settings=settings)
    for module in built_ins:
        _load(plugins, module.split(".")[1], BUILT_IN, functools.partial(importlib.import_module, module), settings)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
        _load(plugins, point.name, _distribution(point), point.load, settings)
    for spec in settings.paths:
        _load_file(plugins, spec, settings)
    unknown = set(settings.disable) - {info.name for info in plugins.infos}
    if unknown and built_ins == BUILT_INS:
        name, known = min(unknown), [info.name for info in plugins.infos]
        raise PluginError(f"plugins.disable: no plugin is called {name!r}.{nearest(name, known)}")
    return plugins


def compare_fingerprints(driver: Mapping[str, str], worker: Mapping[str, str], worker_name: str) -> None:
    """Raise `PluginError` where a worker's plugins are not the driver's."""
    for name in sorted(driver.keys() | worker.keys()):
        if driver.get(name) != worker.get(name):
            what = "is missing" if name not in worker else "is unknown" if name not in driver else "differs"
            raise PluginError(
                f"plugin {name!r} {what} on {worker_name}, compared with the driver; install the same version, or ship "
                f"the same file, on every node"
            )


# --- one plugin ------------------------------------------------------------------------------------------------------


def _load(
    plugins: Plugins, name: str, origin: str, load: Callable[[], Any], settings: PluginSettings, digest: str = ""
) -> None:
    info = PluginInfo(name=name, origin=origin, digest=digest or _version_digest(origin))
    if name in settings.disable:
        plugins.infos.append(replace(info, disabled=True))
        return
    if name in (known.name for known in plugins.infos):
        plugins.infos.append(replace(info, error=f"another plugin is already called {name!r}; rename this one"))
        return
    try:
        module = load()
        hooks = _register(plugins, name, module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is what this function is for
        _forget(plugins, name)
        plugins.infos.append(replace(info, error=in_one_line(error, info.distribution)))
        return
    parts = tuple(f"{e.kind} {e.name}" for e in plugins.registry.entries() if e.owner == name)
    plugins.infos.append(replace(info, hooks=hooks, parts=parts))


def _register(plugins: Plugins, name: str, module: Any) -> tuple[str, ...]:
    """Hand the module to pluggy, refuse misspelt hooks, and let it register its parts. Returns its hooks."""
    _refuse_other_api(module)
    manager = plugins.manager
    manager.register(module, name=name)
    callers = manager.get_hookcallers(module) or []
    _refuse_unknown_hooks(callers)
    for caller in callers:
        kind = _REGISTER_HOOKS.get(caller.name)
        if kind is None:
            continue
        for implementation in caller.get_hookimpls():
            if implementation.plugin is module:
                implementation.function(_register_for(plugins.registry, kind, name))
    return tuple(sorted(caller.name for caller in callers))


def _refuse_other_api(module: Any) -> None:
    """Before its hooks are looked at: what is wrong with them may be that they are of another version."""
    wanted = getattr(module, "__rlhf_api__", hookspecs.API_VERSION)
    if type(wanted) is not int:
        raise PluginError(f"__rlhf_api__ is a whole number, as in __rlhf_api__ = 1; given {wanted!r}")
    if wanted != hookspecs.API_VERSION:
        newer = "a newer rlhf" if wanted > hookspecs.API_VERSION else "a newer version of the plugin"
        raise PluginError(
            f"it is written for version {wanted} of the hooks (__rlhf_api__), and this rlhf has version "
            f"{hookspecs.API_VERSION}; install {newer}"
        )


def _refuse_unknown_hooks(callers: Iterable[pluggy.HookCaller]) -> None:
    known = [name for name in vars(hookspecs) if name.startswith(("register_", "on_", "should_"))]
    for caller in callers:
        if not caller.has_spec():
            hint = nearest(caller.name, known)
            raise PluginError(f"no hook is called {caller.name!r}.{hint} `rlhf hooks` lists them")


def _register_for(registry: Registry, kind: Kind, owner: str) -> Callable[..., None]:
    def register(name: str, factory: Callable[..., Any], *, config: type[PartConfig] | None = None) -> None:
        if not callable(factory):
            raise PluginError(f"register({name!r}, ...) wants a callable, given {type(factory).__name__}")
        if kind == "reward" and config is not None and (taken := RESERVED_OPTIONS & config.model_fields.keys()):
            raise PluginError(
                f"reward {name!r} has an option {min(taken)!r}, which is a recipe's own key for every reward; rename it"
            )
        plain = function_options(factory) if kind == "reward" and config is None else None
        registry.add(Entry(kind, name, factory, config, owner, plain))

    return register


def _forget(plugins: Plugins, name: str) -> None:
    plugins.registry.remove_owner(name)
    if plugins.manager.has_plugin(name):
        plugins.manager.unregister(name=name)


# --- one file --------------------------------------------------------------------------------------------------------


def _load_file(plugins: Plugins, spec: str, settings: PluginSettings) -> None:
    path_text, _, function = spec.partition(".py:")
    path = Path(path_text + ".py" if function else spec)
    if not any(_is_of_file(info, path) for info in plugins.infos):
        load = functools.partial(_import_file, path, function)
        _load(plugins, path.stem, str(path), load, settings, _file_digest(path))
    place = next(i for i, info in enumerate(plugins.infos) if _is_of_file(info, path))
    info = plugins.infos[place]
    if function:
        plugins.named.add(info.name)
    if function and info.error is None and not info.disabled:
        plugins.infos[place] = _with_function(plugins, info, function)


def _is_of_file(info: PluginInfo, path: Path) -> bool:
    return Path(info.origin).resolve() == path.resolve()


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


class _UncachedLoader(SourceFileLoader):
    """Compiles the file anew: cached bytecode passes for that of an edit of the same size within the same second."""

    def path_stats(self, path: str | bytes) -> Mapping[str, Any]:
        raise OSError("no cache")


class _Trains(BaseException):
    """A file that is being imported has come to where it trains; no `except Exception` of its own ends this."""


def _import_file(path: Path, function: str = "") -> ModuleType:
    """Import under a name made of the file's name and contents: the same on every node, whatever its folder.

    A script that trains is imported up to there, which is enough where `function` is all that is wanted of it.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise PluginError(f"no such file {str(path)!r}.{nearest(path.name, siblings)}")
    module_name = f"rlhf_plugin_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{_file_digest(path)[:12]}"
    if module_name in sys.modules:
        return _with_enough(sys.modules[module_name], path, function)
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_UncachedLoader(module_name, str(path)))
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before its code runs: its classes must be importable by this name
    _importing.append(path)
    try:
        spec.loader.exec_module(module)
    except _Trains:
        _unfinished.add(module_name)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        _importing.pop()
    return _with_enough(module, path, function)


def _with_enough(module: ModuleType, path: Path, function: str) -> ModuleType:
    if module.__name__ in _unfinished and not hasattr(module, function):
        before = f", before it defines {function!r}" if function else ""
        raise PluginError(f'{path} trains when it is imported{before}; put that under `if __name__ == "__main__":`')
    return module


_importing: list[Path] = []  # one-file plugins whose code is running
_unfinished: set[str] = set()  # modules of scripts that were imported up to where they train


def refuse_while_importing() -> None:
    """End the import of a plugin whose own code starts a run, which would load the plugin, which would start..."""
    if _importing:
        raise _Trains


def _with_function(plugins: Plugins, info: PluginInfo, function: str) -> PluginInfo:
    """`FILE.py:FUNCTION`: the function is a reward of that name, hook or no hook."""
    if f"reward {function}" in info.parts:
        return info
    module = plugins.manager.get_plugin(info.name)
    candidate = getattr(module, function, None)
    if not callable(candidate):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        return replace(info, error=f"it has no function {function!r}.{nearest(function, known)}")
    try:
        plugins.registry.add(Entry("reward", function, candidate, None, info.name, function_options(candidate)))
    except PluginError as error:
        return replace(info, error=in_one_line(error, info.distribution))
    return replace(info, parts=(*info.parts, f"reward {function}"))


# --- words -----------------------------------------------------------------------------------------------------------


def _distribution(point: EntryPoint) -> str:
    return f"package {point.dist.name} {point.dist.version}" if point.dist else f"entry point {point.value}"


def _version_digest(origin: str) -> str:
    from rlhf import __version__

    return _digest(__version__ if origin == BUILT_IN else origin)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
