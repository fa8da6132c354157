"""The data sets `rlhf` brings, registered like those of any plugin."""

from __future__ import annotations

from rlhf.config import Part
from rlhf.data.dataset import FilesConfig, FilesDataset, RowsConfig, RowsDataset
from rlhf.data.mixture import MixtureConfig, MixtureDataset, mix
from rlhf.errors import ConfigError, nearest
from rlhf.hookspecs import hookimpl
from rlhf.protocols import Dataset
from rlhf.registry import Register
from rlhf.validation import validated


@hookimpl
def register_datasets(register: Register) -> None:
    """Files, rows and mixtures."""
    register("files", FilesDataset, config=FilesConfig)
    register("rows", RowsDataset, config=RowsConfig)
    register("mixture", mixture, config=MixtureConfig)


def mixture(config: MixtureConfig) -> MixtureDataset:
    """A mixture of data sets of this package."""
    return mix(config, _build)


def _build(part: Part) -> Dataset:
    where = f"mixture source {part.type!r}"
    if part.type == "files":
        return FilesDataset(validated(FilesConfig, part.options, where))
    if part.type == "rows":
        return RowsDataset(validated(RowsConfig, part.options, where))
    if part.type == "mixture":
        return mixture(validated(MixtureConfig, part.options, where))
    known = ("files", "rows", "mixture")
    raise ConfigError(f"{where}: a mixture takes {', '.join(known)}.{nearest(part.type, known)}")
