"""What `rlhf export` is pointed at: a run, one of its stages, a model, or an adapter beside the model it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.config import ModelConfig
from rlhf.config.model_files import require_plain_model
from rlhf.errors import ConfigError
from rlhf.recipe_file import read_yaml, table_at
from rlhf.runtime.models import require_model

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_RECIPE = "recipe.yaml"
_HUB_FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)


@dataclass(frozen=True)
class Source:
    """Where the weights lie, and which run they are of."""

    given: str
    """As the command line named it."""
    weights: Path
    """A folder with `config.json` and safetensors."""
    adapter: Path | None = None
    """An adapter that `weights` do not have in them yet."""
    run: Path | None = None
    stage: str | None = None
    """The stage of `run` that made the model; None in a run of one stage."""

    @property
    def is_local(self) -> bool:
        """A folder was named, and not a model of the hub."""
        return Path(self.given).expanduser().is_dir()


def find_source(given: str) -> Source:
    """Raises `ConfigError` for what is neither, and for a model whose files ask for more than to be read."""
    folder = Path(given).expanduser()
    if not folder.is_dir():
        return Source(given, weights=_of_hub(given))
    has_model = (folder / "config.json").is_file()
    if (folder / ADAPTER_CONFIG).is_file() and not has_model:
        run, stage = _run_of(folder.parent)
        return Source(given, weights=_base_of(folder), adapter=folder, run=run, stage=stage)
    if not has_model:
        folder = _model_of_run(given, folder)
    require_plain_model(str(folder))
    run, stage = _run_of(folder)
    return Source(given, weights=folder, run=run, stage=stage)


def read_table(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises `ConfigError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path} holds no table of keys")
    return dict(found)


def is_hub_name(name: str) -> bool:
    """`owner/name` that no folder here is called."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir()


def _model_of_run(given: str, folder: Path) -> Path:
    """The model of a stage's folder, or of a run's last stage."""
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    if not (folder / _RECIPE).is_file():
        raise ConfigError(
            f"{given}: neither a run (recipe.yaml), nor a stage of one (model/), nor a model (config.json), nor an "
            f"adapter ({ADAPTER_CONFIG})"
        )
    stages = list(table_at(read_yaml(folder / _RECIPE), "stages"))
    finished = [name for name in stages if (folder / name / "model" / "config.json").is_file()]
    if not finished:
        raise ConfigError(f"{given}: no stage of this run has finished, so there is no model yet")
    if finished[-1] != stages[-1]:
        raise ConfigError(
            f"{given}: the last stage, {stages[-1]}, has not finished; export an earlier one by its name: "
            f"{folder / finished[-1]}"
        )
    return folder / finished[-1] / "model"


def _run_of(model: Path) -> tuple[Path | None, str | None]:
    """The run, and the stage where it has several, that a folder called `model` lies in."""
    folder = model.resolve()
    if folder.name != "model":
        return None, None
    if (folder.parent / _RECIPE).is_file():
        return folder.parent, None
    if (folder.parent.parent / _RECIPE).is_file():
        return folder.parent.parent, folder.parent.name
    return None, None


def _base_of(adapter: Path) -> Path:
    """The folder of the model an adapter was trained on."""
    named = read_table(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ConfigError(f"{adapter / ADAPTER_CONFIG} does not say which model it is of (base_model_name_or_path)")
    folder = Path(named).expanduser()
    try:
        if not folder.is_dir():
            return _of_hub(named)
    except ConfigError as error:
        raise ConfigError(
            f"the model this adapter is of, {named}, is not to be had ({error}); write where it lies into "
            f"base_model_name_or_path of {adapter / ADAPTER_CONFIG}"
        ) from None
    require_plain_model(named)
    return folder


def _of_hub(name: str) -> Path:
    """The files of a model of the hub, fetched where they are not here yet; no code, no pickles."""
    require_model(ModelConfig(path=name))
    require_plain_model(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: no folder here, and cannot be fetched: {str(error).splitlines()[0]}") from None
