"""Parts by name. Filled once per process by the register hooks, each part under the plugin that owns it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from pydantic import BaseModel

from rlhf.errors import ConfigError, PluginError, nearest
from rlhf.validation import validated

Kind = Literal["reward", "grader", "dataset", "algorithm", "train_engine", "rollout_engine", "tracker"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CONTEXT: Mapping[Kind, tuple[str, ...]] = {
    "reward": ("parts",),
    "grader": ("parts",),
    "dataset": (),
    "algorithm": (),
    "train_engine": ("spec",),
    "rollout_engine": ("model",),
    "tracker": ("folder",),
}
"""What a factory is given besides its config."""
_HOW_A_FUNCTION_HAS_SOME = (
    "A function's are its keyword-only parameters with a default: def f(completions, *, alpha=0.5)."
)


class Register(Protocol):
    """What a register hook is given: `register("name", factory, config=MyConfig)`."""

    def __call__(self, name: str, factory: Callable[..., Any], *, config: type[BaseModel] | None = None) -> None: ...


@dataclass(frozen=True)
class Entry:
    """A registered part: `factory(config, ...)` builds it; `config` checks its options."""

    kind: Kind
    name: str
    factory: Callable[..., Any]
    config: type[BaseModel] | None
    owner: str
    options: type[BaseModel] | None = None
    """Of a plain function, which is called and not built: what checks its keyword-only parameters."""


class Registry:
    """All parts of this process."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Kind, str], Entry] = {}

    def add(self, entry: Entry) -> None:
        """Add a part; two of one name are an error that names both owners, never a matter of load order."""
        known = self._entries.get((entry.kind, entry.name))
        if known is not None:
            raise PluginError(
                f"two {entry.kind}s are called {entry.name!r}: one of plugin {known.owner!r}, one of {entry.owner!r}; "
                f"rename one, or leave one out with plugins.disable: [{entry.owner}]"
            )
        self._entries[entry.kind, entry.name] = entry

    def remove_owner(self, owner: str) -> None:
        """Forget everything a plugin registered."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry.owner != owner}

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for k, name in self._entries if k == kind)

    def entries(self) -> list[Entry]:
        return [self._entries[key] for key in sorted(self._entries)]

    def get(self, kind: Kind, name: str, where: str = "") -> Entry:
        """The part of this name; `where` is the place in the recipe that asked for it."""
        entry = self._entries.get((kind, name))
        if entry is None:
            known = self.names(kind)
            at = f"{where}: " if where else ""
            raise ConfigError(f"{at}no {kind} is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
        return entry

    def check(
        self, kind: Kind, name: str, options: Mapping[str, Any], where: str = "", beside: Iterable[str] = ()
    ) -> BaseModel | None:
        """The part's options, checked against its own config class, or a function's; None for a part that takes none.

        `beside`: keys of the same table that are not the part's, one of which may have been meant.
        """
        entry = self.get(kind, name, where)
        schema = entry.config or entry.options
        if schema is not None and (entry.config or schema.model_fields):
            return validated(schema, options, where or name)
        if options:
            hint = nearest(next(iter(options)), beside)
            plain = f" {_HOW_A_FUNCTION_HAS_SOME}" if entry.options else ""
            raise ConfigError(
                f"{where or name}: {kind} {name!r} takes no options, given {', '.join(options)}.{hint}{plain}"
            )
        return None

    def build(self, kind: Kind, name: str, options: Mapping[str, Any], *context: Any, where: str = "") -> Any:
        """Build the part: `factory(config, *context)`."""
        config = self.check(kind, name, options, where)
        entry = self.get(kind, name, where)
        try:
            inspect.signature(entry.factory).bind(config, *context)
        except TypeError as error:
            wanted = f"factory({', '.join(['config', *_CONTEXT[kind]])})"
            told = f"{kind} {name!r} of plugin {entry.owner!r} cannot be called as {wanted}: {error}"
            raise PluginError(told) from None
        except ValueError:  # a callable without a signature to look at
            pass
        return entry.factory(config, *context)
