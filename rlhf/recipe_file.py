"""Reading a recipe's YAML, and the plain-dictionary steps before it is checked: overrides, variables, defaults."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlhf.config.reward_functions import only_reward_function
from rlhf.config.strict_yaml import MAX_BYTES, load_yaml, read_yaml_file
from rlhf.errors import ConfigError, nearest

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The file as a dictionary; `ConfigError` with file and line where it is not one."""
    data = read_yaml_file(path)
    if data is None:
        raise ConfigError(f"{path} is empty; `rlhf recipes copy quickstart my.yaml` gives one to start from")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a table of keys, given {type(data).__name__}")
    return data


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("rlhf"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def table_at(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The table under `key`, empty where there is none; `ConfigError` where something else stands there."""
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: a table of keys is needed, given {value!r}")
    return dict(value)


def parse_override(text: str) -> tuple[str, Any]:
    """`"algorithm.kl_coef=0.1"` as (key, value); the value is read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {text!r}: write key=value, as in algorithm.kl_coef=0.1")
    return key, load_yaml(value, f"override {key}") if value else None


def require_stage_names(
    data: Mapping[str, Any], overrides: Mapping[str, Any], stage_keys: Collection[str], run_keys: Collection[str]
) -> None:
    """A stage's setting, changed from outside, must say of which stage where there are several."""
    stages = [str(name) for name in table_at(data, "stages")]
    known, variables = [*stages, *run_keys, "defaults", "variables"], table_at(data, "variables")
    for key in overrides if stages else ():
        first, dot, _ = key.partition(".")
        if first in known or key in variables:
            continue
        if first in stage_keys:
            raise ConfigError(
                f"override {key}: this recipe has stages ({', '.join(stages)}); say which, as in "
                f"{stages[-1]}.{key}=VALUE"
            )
        if dot:
            hint = nearest(first, known)
            raise ConfigError(f"override {key}: this recipe has no stage {first!r}.{hint} Stages: {', '.join(stages)}.")


def apply_overrides(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set dotted keys. A pipeline's stage may be named without `stages.`, a variable without `variables.`."""
    result = copy.deepcopy(dict(data))
    stages, variables = table_at(data, "stages"), table_at(data, "variables")
    for dotted, value in overrides.items():
        keys = dotted.split(".")
        if keys[0] in stages:
            keys = ["stages", *keys]
        elif len(keys) == 1 and dotted in variables:
            keys = ["variables", *keys]
        table = result
        for key in keys[:-1]:
            inner = table.get(key)
            if not isinstance(inner, dict):  # absent, or a short form such as `model: PATH`
                inner = table[key] = _long_form(key, inner)
            table = inner
        table[keys[-1]] = value
    return result


def _long_form(key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if key in ("algorithm", "data", "engine") and isinstance(value, str):
        return {"type": value}
    if key in ("model", "teacher", "reference", "reward_model", "cost_model") and isinstance(value, str):
        return {"new": {}} if value == "new" else {"path": value}
    raise ConfigError(f"override: {key} is {value!r}, not a table with keys")


def expand_variables(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `${name}` everywhere by the `variables` table, which then goes away."""
    variables = table_at(data, "variables")
    rest = {key: value for key, value in data.items() if key != "variables"}
    _require_values(rest, variables)
    _require_bounded(rest, variables)
    expanded = _expand(rest, variables)
    assert isinstance(expanded, dict)
    return expanded


def _expand(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: str(_variable(match.group(1), variables)), value)
    if isinstance(value, Mapping):
        return {key: _expand(item, variables) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_expand(item, variables) for item in value]
    return value


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise ConfigError(f"${{{name}}}: not among the recipe's variables.{nearest(name, variables)}")
    return variables[name]


def _require_values(value: Any, variables: Mapping[str, Any]) -> None:
    """`ConfigError` naming every variable that is used and has no value."""
    used = set(_VARIABLE.findall(json.dumps(value, default=str)))
    missing = [name for name, given in variables.items() if given is None and name in used]
    if missing:
        words = " ".join(f"{name}=VALUE" for name in missing)
        raise ConfigError(f"this recipe needs {' and '.join(missing)}: add {words} to the command")


def _require_bounded(value: Any, variables: Mapping[str, Any]) -> None:
    """Variables do not multiply a small recipe into one that fills the memory."""
    used = Counter(_VARIABLE.findall(json.dumps(value, default=str)))
    added = sum(number * len(str(variables.get(name))) for name, number in used.items())
    if added > MAX_BYTES:
        most = max(used, key=lambda name: used[name])
        raise ConfigError(
            f"${{{most}}} is used {used[most]} times: variables add {added} characters, and may add {MAX_BYTES}"
        )


def merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `defaults`, table by table."""
    result = copy.deepcopy(dict(defaults))
    for key, value in own.items():
        inner = result.get(key)
        result[key] = merged(inner or {}, value) if _same_part(inner, value) else copy.deepcopy(value)
    return result


def _same_part(default: Any, own: Any) -> bool:
    """Two tables that speak of the same part: the options of one type are nothing to another."""
    if not (isinstance(default, dict) and isinstance(own, Mapping)):
        return False
    return bool(own.get("type", default.get("type")) == default.get("type"))


# --- rewards and plugins in files of their own -----------------------------------------------------------------------


def with_reward_files_as_plugins(data: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """`reward: FILE.py:FUNCTION` names a one-file plugin and the reward in it; so does `cost`.

    `FILE.py` alone is enough where one function of it could be a reward; it is looked for beside the recipe, in
    `folder`, first. Raises `ConfigError` where there is no such function, or more than one.
    """
    settings = table_at(data, "plugins")
    paths = _paths(settings)
    evaluation = data.get("evaluation")
    sides = [evaluation.get(side) for side in ("before", "after")] if isinstance(evaluation, dict) else []
    for table in (*data["stages"].values(), *(side for side in sides if isinstance(side, dict))):
        for key in {"reward", "cost"} & table.keys():
            items = table[key] if isinstance(table[key], list | tuple) else [table[key]]
            table[key] = [_named_reward(item, paths, folder) for item in items]
    data["plugins"] = settings | {"paths": paths}
    return data


def _paths(settings: Mapping[str, Any]) -> list[str]:
    paths = settings.get("paths", ())
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise ConfigError(f"plugins.paths: a list of files is needed, given {paths!r}")
    return list(paths)


def _named_reward(item: Any, paths: list[str], folder: Path | None) -> Any:
    table = {"type": item} if isinstance(item, str) else item
    name = table.get("type") if isinstance(table, Mapping) else None
    if isinstance(name, str) and name.endswith(".py"):
        name = f"{name}:{only_reward_function(Path(_beside(name, folder) if folder else name))}"
    if not isinstance(name, str) or ".py:" not in name:
        return table
    if name not in paths:
        paths.append(name)
    return {**table, "type": name.partition(".py:")[2]}


def with_plugin_paths_beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Plugin files are looked for beside the recipe first, then in the working folder."""
    settings = table_at(data, "plugins")
    paths = [_beside(path, folder) for path in _paths(settings)]
    data["plugins"] = settings | {"paths": paths}
    return data


def _beside(spec: str, folder: Path) -> str:
    file, separator, _ = spec.partition(".py:")
    return str(folder / spec) if (folder / f"{file}{'.py' if separator else ''}").is_file() else spec
