"""What a command line names: the model of a run or a folder, rewards by name or by model, and the names they get."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rlhf.config import ModelConfig, RewardPart
from rlhf.errors import ConfigError, UserError, nearest
from rlhf.plugins import Plugins
from rlhf.runtime.models import encoder_for, require_model
from rlhf.serving.settings import JudgeConfig
from rlhf.tracking.summary import read_summary


def model_path(named: str) -> str:
    """The model's folder or hub name; of a run's folder, its last stage's model."""
    folder = Path(named).expanduser()
    if not folder.is_dir():
        require_model(ModelConfig(path=named))
        return named
    if (folder / "config.json").is_file():
        return str(folder.absolute())
    stages = [stage["name"] for stage in _summary(folder).get("stages", [])]
    for candidate in (folder / "model", *(folder / name / "model" for name in reversed(stages))):
        if (candidate / "config.json").is_file():
            return str(candidate.absolute())
    raise ConfigError(
        f"{named}: neither a model (config.json) nor a finished run (summary.json); give a run's folder, or a model's "
        "as RUN/STAGE/model"
    )


def named_models(paths: Iterable[str]) -> dict[str, str]:
    """Folder or hub name by a name that is short, and unlike the others."""
    models: dict[str, str] = {}
    for given in paths:
        name = _short_name(given)
        models[name if name not in models else f"{name}-2"] = model_path(given)
    for path in models.values():
        if _kind(path).endswith("ForSequenceClassification"):
            raise ConfigError(f"{path}: a reward model, which writes nothing; give a policy, as RUN/STAGE/model")
        encoder_for(ModelConfig(path=path))  # tokenizer and model fit each other, and an answer can end
    return models


def named_judges(rewards: Iterable[str], graders: Iterable[str], plugins: Plugins) -> tuple[JudgeConfig, ...]:
    """Rewards by registered name or by the folder of a reward model, and graders by name."""
    judges = [_reward(given, plugins) for given in rewards]
    for name in graders:
        plugins.registry.get("grader", name, "--grader")
        judges.append(
            JudgeConfig(name=name, kind="grader", part=RewardPart.model_validate({"type": "graded", "grader": name}))
        )
    names = [judge.name for judge in judges]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--reward, --grader: two are called {name!r}; give each once")
    return tuple(judges)


def api_key(variable: str | None, *, is_private: bool) -> str | None:
    """The key, from the environment. Raises `ConfigError` where one is needed, and where it is no key."""
    if variable is None:
        if is_private:
            return None
        raise ConfigError("--host: others can reach it there, so a key is needed: put one in a variable and name it "
                          "with --api-key-env")  # fmt: skip
    key = os.environ.get(variable, "").strip()
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"--api-key-env: the environment variable {variable!r} should hold a key of {_SHORTEST_KEY} or more "
            "printable ASCII characters, as `openssl rand -hex 16` makes them"
        )
    return key


_SHORTEST_KEY = 16


def _reward(given: str, plugins: Plugins) -> JudgeConfig:
    known = plugins.registry.names("reward")
    if given in known:
        return JudgeConfig(name=given, kind="reward", part=RewardPart(type=given))
    try:
        path = model_path(given)
    except UserError as error:
        raise ConfigError(
            f"--reward {given}: no reward is called so,{nearest(given, known) or ' nor'} is it a model: {error}"
        ) from None
    if not (Path(path).exists() or "/" in path):  # so many hub names have an owner that one without is a misspelling
        raise ConfigError(
            f"--reward {given}: no reward is called so.{nearest(given, known)} Known: {', '.join(known)}."
        )
    if not _kind(path).endswith("ForSequenceClassification"):
        raise ConfigError(f"--reward {given}: not a reward model (its checkpoint holds a {_kind(path) or 'nameless'})")
    part = RewardPart(type="reward_model")
    return JudgeConfig(name=_short_name(given).replace("/", "-"), kind="reward", part=part, model=path)


def _kind(path: str) -> str:
    """The class its checkpoint names, which holds where tied weights make a loader content with less."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    return str((getattr(config, "architectures", None) or [""])[0])


def _short_name(given: str) -> str:
    """`runs/quickstart/ppo/model` is `quickstart-ppo`; a hub name is itself."""
    if not Path(given).expanduser().is_dir():
        return given
    parts = [part for part in Path(given).expanduser().absolute().parts if part not in ("model", "/", "runs")]
    return "-".join(parts[-2:] if Path(given).name == "model" else parts[-1:]) or "model"


def _summary(folder: Path) -> dict[str, list[dict[str, str]]]:
    return read_summary(folder) if (folder / "summary.json").is_file() else {}
