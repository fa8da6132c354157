"""Why a plugin could not be loaded, in one line, and what to do about it."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import PackageNotFoundError, requires

import pluggy

from rlhf import hookspecs
from rlhf.errors import PluginError, nearest

_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def in_one_line(error: BaseException, distribution: str | None) -> str:
    """What went wrong. `distribution` is the installed package that the plugin is of, if it is of one."""
    if isinstance(error, PluginError):
        return " ".join(str(error).split())
    if isinstance(error, pluggy.PluginValidationError):
        return _wrong_arguments(error) or _plainly(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_package(error.name.partition(".")[0], distribution) or _plainly(error)
    return _plainly(error)


def _plainly(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _wrong_arguments(error: pluggy.PluginValidationError) -> str | None:
    """A hook with a parameter its specification has not."""
    told = re.search(r"for hook '(\w+)'.*Argument\(s\) \{(.*?)\}", str(error), flags=re.DOTALL)
    spec = told and getattr(hookspecs, told[1], None)
    if told is None or spec is None:
        return None
    known = list(inspect.signature(spec).parameters)
    wrong = sorted(re.findall(r"'(\w+)'", told[2]))
    return f"hook {told[1]!r} has no parameter {wrong[0]!r}.{nearest(wrong[0], known)} It may take: {', '.join(known)}"


def _missing_package(module: str, distribution: str | None) -> str | None:
    """The command that installs it: an extra of the plugin's own package, where it has one for it."""
    if distribution is None:
        return f"it needs the module {module!r}, which is not installed: pip install {module}"
    try:
        rows = requires(distribution) or []
    except PackageNotFoundError:
        return None
    for row in rows:
        name = re.split(r"[\s;\[<>=!~(]", row, maxsplit=1)[0]
        if _normal(name) == _normal(module):
            extra = _EXTRA.search(row)
            wanted = f"'{distribution}[{extra[1]}]'" if extra else name
            return f"it needs the module {module!r}, which is not installed: pip install {wanted}"
    return (
        f"it needs the module {module!r}, which is not installed, and {distribution} does not say which package has it"
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
