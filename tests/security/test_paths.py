"""Names that try to lead outside their folder, and what `rlhf submit` sends."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

import rlhf
from rlhf.errors import ConfigError, PluginError, UserError
from rlhf.recipe import load_recipe
from rlhf.runtime import submission
from rlhf.runtime.submission import submit_recipe
from tests.tiny_runs import SFT, changed, single

NAMES = [
    "..",
    ".",
    "../x",
    "/x",
    "a/b",
    "a\\b/../c",
    "a\nb",
    "a\0b",
    "",
    " ",
    "-rf",
    "~",
    "a" * 129,
    "a;touch x",
    "$(x)",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_not_called_by_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="name: a folder is named after it"):
        load_recipe(single(SFT, name=name))


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_is_not_called_by_a_path(name: str) -> None:
    stage = {**SFT, "data": "pocket"}
    with pytest.raises(ConfigError, match="a folder is named after it"):
        load_recipe({"stages": {name: stage, "b": stage}})


@pytest.mark.parametrize("name", ["../x", "/x", "..", "a.b"])
def test_a_reward_is_not_called_by_a_path(name: str) -> None:
    """Its failures and its output go into files of its name."""
    with pytest.raises(ConfigError, match="name"):
        load_recipe(single({**SFT, "reward": [{"type": "length", "name": name}]}))


@pytest.mark.parametrize("key", ["trackers", "algorithm", "data", "engine", "monitor", "rollout.engine"])
@pytest.mark.parametrize("name", ["../../x", "os:system", "/etc/passwd", "evil.module.Class"])
def test_a_part_is_a_registered_name_and_nothing_that_is_imported(
    key: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value: Any = [name] if key in ("trackers", "monitor") else {"type": name}
    with pytest.raises(UserError, match=r"no .* is called"):
        rlhf.train(single(changed(SFT, {key: value})))
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written beside it, also where the folder is given with `..` or through a link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    recipe = single(changed(SFT, {"algorithm.steps": 1}), held_out_rows=0)
    for out in ("here/../one", "link/two"):
        rlhf.train(recipe, out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "one", "real"]
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["two"]


# --- what is sent to a cluster ---------------------------------------------------------------------------------------


class Jobs:
    """In the place of Ray's client: keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit_job(self, **job: Any) -> None:
        self.told = job


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Jobs:
    """A folder full of secrets, and a cluster that takes anything."""
    monkeypatch.chdir(tmp_path)
    for name in (".env", "server.pem", "id_rsa", ".netrc", "notes.txt", "big.py"):
        (tmp_path / name).write_text("KEY = 'sk-do-not-send-me'\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[remote] https://user:sk-do-not-send-me@host\n")
    client = Jobs()
    monkeypatch.setattr(submission, "_client", lambda address: client)
    return client


def submit(recipe: dict[str, Any], **options: Any) -> Path:
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    job = submit_recipe("recipe.yaml", {}, "http://127.0.0.1:8265", **options)
    return Path("runs/submitted") / job.id


def test_only_the_recipe_and_its_plugins_are_sent(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-of-the-environment")
    Path("mine.py").write_text("import rlhf\n")
    sent = submit(single(SFT, plugins={"paths": ["mine.py"]}))
    assert sorted(str(path.relative_to(sent)) for path in sent.rglob("*")) == ["mine.py", "recipe.yaml"]
    assert jobs.told["runtime_env"]["working_dir"] == str(sent)
    told = json.dumps(jobs.told) + "".join(path.read_text() for path in sent.iterdir())
    assert "sk-" not in told


@pytest.mark.parametrize("file", [".env", "server.pem", "id_rsa", "../outside.txt", ".git/config"])
def test_a_recipe_cannot_have_other_files_sent_as_plugins(file: str, jobs: Jobs) -> None:
    Path("../outside.txt").write_text("secret")
    with pytest.raises(PluginError, match=r"is not a Python file"):
        submit(single(SFT, plugins={"paths": [file]}))
    assert not jobs.told


def test_a_plugin_that_is_a_link_to_something_else_is_not_sent(jobs: Jobs) -> None:
    Path("mine.py").symlink_to(".env")
    with pytest.raises(PluginError, match=r"is not a Python file"):
        submit(single(SFT, plugins={"paths": ["mine.py"]}))
    os.mkfifo("pipe.py")
    with pytest.raises(PluginError, match="no such file"):
        submit(single(SFT, plugins={"paths": ["pipe.py"]}))
    assert not jobs.told


def test_a_plugin_with_a_secret_of_the_environment_in_it_is_not_sent(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-do-not-send-me")
    with pytest.raises(PluginError, match=r"holds the value of the environment variable MY_API_KEY") as refusal:
        submit(single(SFT, plugins={"paths": ["big.py"]}))
    assert "sk-" not in str(refusal.value)
    assert not jobs.told


def test_a_huge_plugin_is_not_sent(jobs: Jobs) -> None:
    Path("big.py").write_text("#" * (2**20 + 1))
    with pytest.raises(PluginError, match="larger than 1 MiB"):
        submit(single(SFT, plugins={"paths": ["big.py"]}))
    assert not jobs.told


@pytest.mark.parametrize("out", ["/x; touch y", "~/a b/$(touch y)", "/a'b\"c", "~/`x`"])
def test_the_run_folder_is_one_word_to_the_shell_of_the_cluster(out: str, jobs: Jobs) -> None:
    submit(single(SFT), out=out)
    words = shlex.split(jobs.told["entrypoint"], comments=False)
    assert words[-2:] == ["--out", out]
    assert words[0] == "python"


@pytest.mark.parametrize("out", ["relative", "../x", "/a\nb", "~/a\0b", "~other/x"])
def test_other_run_folders_are_refused(out: str, jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match="--out"):
        submit(single(SFT), out=out)
    assert not jobs.told
