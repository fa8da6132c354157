"""What `rlhf reward test` and `rlhf grade` share: finding the part, its options, and showing what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf.cli.terminal import print_table

if TYPE_CHECKING:
    from rlhf.evaluation.statistics import Estimate
    from rlhf.plugins import Plugins
    from rlhf.registry import Kind
    from rlhf.testing.rows import TriedRows
    from rlhf.testing.trying import Trial, Tried
    from rlhf.testing.verdicts import Judge

LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Read at most this many rows of the data.")]
ShowOption = Annotated[int, typer.Option(min=0, metavar="N", help="Completions shown in the table.")]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="Read COLUMN of the file as NAME: `completion=answer` judges the column `answer`. Repeatable.",
    ),
]
OptionArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value ...]", help="Options of the part, as in a recipe.")
]

_EXCERPT = 60


def read_data(file: Path, columns: Iterable[str] | None, limit: int | None) -> TriedRows:
    """Rows with completions. Raises `ConfigError` for a malformed --column, `DataError` where nothing was answered."""
    from rlhf.errors import ConfigError, DataError
    from rlhf.testing.rows import read_tried_rows

    renamed: dict[str, str] = {}
    for word in columns or ():
        ours, separator, theirs = word.partition("=")
        if not (ours and separator and theirs):
            raise ConfigError(
                f"--column {word}: write NAME=COLUMN, the name that is wanted and then the file's own, as in "
                "completion=answer"
            )
        renamed[ours] = theirs
    data = read_tried_rows(file, renamed, limit)
    if not any(row.completions for row in data.rows):
        raise DataError(
            f"{file}: its rows hold no completions to judge. Known columns are in docs/data.md; where the completions "
            f"are in another column, --column completion=COLUMN reads it as such."
        )
    return data


def find_judge(kind: Kind, part: str, words: Iterable[str] | None, plugin_files: Sequence[str] | None) -> Judge:
    """The reward or grader NAME, FILE.py:FUNCTION, or the only one of FILE.py, with these options."""
    from rlhf.plugins import PluginSettings, load_plugins
    from rlhf.recipe_file import apply_overrides, parse_override
    from rlhf.testing.building import build_judge

    files = [*(plugin_files or ()), *([part] if _is_file(part) else ())]
    plugins = load_plugins(PluginSettings(paths=tuple(files)))
    _require_files(plugins, files)
    broken = tuple(info.name for info in plugins.infos if info.error)
    if broken:  # or the process of a stranger's reward would refuse to start
        plugins = load_plugins(PluginSettings(paths=tuple(files), disable=broken))
    options: dict[str, Any] = apply_overrides({}, dict(parse_override(word) for word in words or ()))
    name = part
    if _is_file(part):
        name = part.partition(".py:")[2] or _only_one(kind, part, plugins.infos[-1].parts)
        if f"{kind} {name}" not in plugins.infos[-1].parts:  # a plain function, which is a reward once it is named
            plugins = load_plugins(PluginSettings(paths=(*files[:-1], f"{part}:{name}"), disable=broken))
    entry = plugins.registry.get(kind, name)
    judge = build_judge(plugins.registry, entry, options)
    return _apart(judge, name, options, plugins) if kind == "reward" else judge


def _require_files(plugins: Plugins, files: Sequence[str]) -> None:
    """Refuse a file that was named and is broken; of other plugins say so, for nobody asked for them."""
    from rlhf.errors import PluginError

    named = {Path(f"{file.partition('.py')[0]}.py").resolve() for file in files}
    for info in plugins.infos:
        if info.error and Path(info.origin).resolve() in named:
            raise PluginError(f"{info.origin} cannot be loaded: {info.error}")
        if info.error:
            typer.echo(f"not loaded: plugin {info.name!r} ({info.origin}): {info.error}", err=True)


def _apart(judge: Judge, name: str, options: dict[str, Any], plugins: Plugins) -> Judge:
    """A stranger's reward is asked as a run asks it: in a process of its own, with a time limit."""
    from rlhf.config import RewardPart
    from rlhf.runtime.reward_process import HostSetup, RewardProcess
    from rlhf.runtime.scoring import own_processes
    from rlhf.testing.verdicts import RewardJudge
    from rlhf.validation import validated

    part = validated(RewardPart, {"type": name, **options}, name)
    if not own_processes(part, plugins):
        return judge
    known = plugins.fingerprints(guests_only=True)
    setup = HostSetup(part=part, where="reward", plugins=plugins.settings, fingerprints=known)
    apart = RewardJudge(RewardProcess(setup), judge.columns, reads_columns=judge.reads_columns)
    apart.optional_columns = getattr(judge, "optional_columns", ())
    return apart


def _is_file(part: str) -> bool:
    return part.endswith(".py") or ".py:" in part


def _only_one(kind: Kind, file: str, parts: Sequence[str]) -> str:
    from rlhf.config.reward_functions import only_reward_function
    from rlhf.errors import ConfigError

    names = [part.removeprefix(f"{kind} ") for part in parts if part.startswith(f"{kind} ")]
    if len(names) == 1:
        return names[0]
    if not names and kind == "reward":
        return only_reward_function(Path(file))
    known = ", ".join(names) or "none"
    raise ConfigError(f"{file} registers {known}; say which {kind} is meant, as in {file}:NAME")


# --- showing ---------------------------------------------------------------------------------------------------------


def print_trial(trial: Trial, show: int) -> None:
    """A row a completion: what could not be judged first, then the lowest and the highest scores."""
    chosen = _chosen(trial.tried, show)
    has_sides = any(tried.side for tried in chosen)
    has_parts = any(tried.verdict.parts for tried in chosen)
    has_words = any(_said(tried) for tried in chosen)
    rows = []
    for tried in chosen:
        verdict = tried.verdict
        cells = [_place(tried), *([tried.side] if has_sides else []), _outcome(tried)]
        if has_parts:
            cells.append(" ".join(f"{name}={value:.4g}" for name, value in verdict.parts.items()))
        cells += [_said(tried)] if has_words else []
        rows.append([*cells, _shown(tried.rollout.completion.text)])
    if rows:
        headers = ["row", *(["side"] if has_sides else []), "score", *(["parts"] if has_parts else [])]
        print_table([*headers, *(["why"] if has_words else []), "completion"], rows)
    if 0 < len(chosen) < len(trial.tried):
        typer.echo(f"({len(chosen)} of {len(trial.tried)}: what failed, then the lowest and the highest; --show N)")


def warn_left_out(data: TriedRows) -> None:
    """Say on standard error which rows of the data could not be read."""
    if data.left_out:
        typer.echo(f"rows left out: {data.left_out}; the first: {data.first_fault}", err=True)


def interval_text(estimate: Estimate) -> str:
    """`0.620 [0.580, 0.660]`, or the figure alone where its interval is endless."""
    from math import isinf

    from rlhf.cli.outcome import estimate_text

    return f"{estimate.value:.3f}" if isinf(estimate.high) else estimate_text(estimate)


def estimate_dict(estimate: Estimate | None) -> dict[str, Any] | None:
    """For JSON, without infinities."""
    from rlhf.evaluation.result import bounds

    return None if estimate is None else {"value": estimate.value, "interval": bounds(estimate), "n": estimate.n}


def tried_dict(tried: Tried) -> dict[str, Any]:
    """For JSON: the verdict and what it is on."""
    verdict = tried.verdict
    row: dict[str, Any] = {"id": tried.row.prompt.id, "score": verdict.value}
    row |= {"side": tried.side} if tried.side else {}
    row |= {"parts": dict(verdict.parts)} if verdict.parts else {}
    row |= {"rationale": verdict.rationale} if verdict.rationale else {}
    error = verdict.error or verdict.fault
    row |= {"error": error} if error else {}
    return row | {"prompt": tried.rollout.prompt.last_user_text, "completion": tried.rollout.completion.text}


def _chosen(tried: Sequence[Tried], show: int) -> list[Tried]:
    if len(tried) <= show:
        return list(tried)
    failed = [item for item in tried if item.verdict.error or item.verdict.fault][: max(1, show // 4)]
    scored = [item for item in tried if item.verdict.value is not None]
    scored.sort(key=lambda item: item.verdict.value or 0.0)
    rest = show - len(failed)
    lowest, highest = scored[: rest // 2], scored[max(rest // 2, len(scored) - (rest - rest // 2)) :]
    return [*failed, *lowest, *highest][:show]


def _place(tried: Tried) -> str:
    return tried.row.prompt.id.rpartition(":")[2]


def _outcome(tried: Tried) -> str:
    if tried.verdict.value is not None:
        return f"{tried.verdict.value:.4g}"
    return "broken" if tried.verdict.fault else "error" if tried.verdict.error else "none"


def _said(tried: Tried) -> str:
    verdict = tried.verdict
    return _shown(verdict.fault or verdict.error or verdict.rationale, 120 if verdict.fault else _EXCERPT)


def _shown(text: str, length: int = _EXCERPT) -> str:
    from rlhf.testing.verdicts import excerpt

    return excerpt(text, length)
