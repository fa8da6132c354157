"""`rlhf algorithms`: the methods, what each learns from and what it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlhf.cli.options import PluginOption
from rlhf.cli.terminal import print_table

if TYPE_CHECKING:
    from rlhf.registry import Registry

_ROLES = ("policy", "reference", "reward", "value", "rollout")


def algorithms(plugin: PluginOption = None) -> None:
    """Every algorithm: the rows it consumes, the roles it starts, the plugin it is from."""
    from rlhf.plugins import PluginSettings, load_plugins

    registry = load_plugins(PluginSettings(paths=tuple(plugin or ()))).registry
    owners = {entry.name: entry.owner for entry in registry.entries() if entry.kind == "algorithm"}
    rows = [[name, *_needs(registry, name), owners[name]] for name in registry.names("algorithm")]
    print_table(["algorithm", "consumes", "roles", "plugin"], rows)


def _needs(registry: Registry, name: str) -> tuple[str, str]:
    """Rows and roles: those of the class, or of the algorithm with its default options."""
    from rlhf.errors import ConfigError

    algorithm: Any = registry.get("algorithm", name).factory
    if not isinstance(getattr(algorithm, "needs", None), frozenset):
        try:
            algorithm = registry.build("algorithm", name, {})
        except ConfigError as error:  # an option without a default: what it starts depends on it
            return "?", str(error)
    return algorithm.consumes, ", ".join(role for role in _ROLES if role in algorithm.needs)
