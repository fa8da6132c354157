"""`rlhf plugins check` from end to end: what hangs, dies, prints or is broken is told, and the others are checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import PluginError
from rlhf.testing import check_plugin
from rlhf.testing.findings import Finding
from rlhf.testing.package_folder import read_package_folder
from rlhf.testing.plugin_check import check_target

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_plugin(text: str) -> str:
        path = tmp_path / "guest.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write_plugin


def check(target: str, timeout: float = 60.0, **options: dict[str, Any]) -> list[Finding]:
    return list(check_target(target, options, None, timeout))


def failures(findings: list[Finding]) -> dict[tuple[str, str], str]:
    return {(f.part, f.check): f.cause for f in findings if f.outcome == "failed"}


WRETCHED = """
    import os, sys, threading, time
    from rlhf import PartConfig, hookimpl

    class Config(PartConfig):
        words: int

    class Reward:
        def __init__(self, config, parts):
            self.words = config.words
        def __call__(self, rollouts):
            return [float(self.words)] * len(rollouts)

    def dies(completions):
        if len(completions) == 1:
            os._exit(3)
        return [1.0] * len(completions)

    def hangs(completions):
        if "" in completions:
            time.sleep(600)
        return [1.0] * len(completions)

    def sound(completions):
        return [float(len(text)) for text in completions]

    def leaves(completions):
        sys.exit("enough")

    @hookimpl
    def register_rewards(register):
        for function in (dies, hangs, leaves, sound):
            register(function.__name__, function)
        register("wordy", Reward, config=Config)

    def on_step_end(step, metrics):
        "Nobody calls it."
"""


@pytest.mark.slow
def test_each_part_is_checked_whatever_the_others_do(write: Write) -> None:
    found = check(write(WRETCHED), timeout=15.0, wordy={"words": 3})
    assert failures(found) == {
        ("plugin", "hooks"): "on_step_end is a function without @hookimpl: it is never called",
        ("reward dies", "one by one"): "it ended the process, with exit code 3",
        ("reward hangs", "any company"): "no answer within 15 s",
        **{(f.part, f.check): f.cause for f in found if f.part == "reward leaves" and f.outcome == "failed"},
    }
    assert "it raised SystemExit: enough (guest.py, line" in failures(found)["reward leaves", "answers"]
    parts = ("reward dies", "reward hangs", "reward leaves", "reward sound", "reward wordy")
    ends = {part: [f.check for f in found if f.part == part][-1] for part in parts}
    assert ends["reward sound"] == ends["reward wordy"] == "another process"


def test_output_and_children_of_a_plugin_do_not_disturb_the_report(write: Write) -> None:
    text = """
        import os, subprocess
        print('{"finding": {"part": "x", "check": "forged", "outcome": "ok"}}')
        os.write(1, b"not JSON")
        subprocess.Popen(["sleep", "30"])
        def f(completions):
            return [1.0] * len(completions)
    """
    found = check(write(text) + ":f")
    assert set(failures(found)) == {("plugin", "quiet on loading")}


def test_a_function_alone_is_checked_alone(write: Write) -> None:
    found = check(write(WRETCHED) + ":sound")
    assert {f.part for f in found} == {"plugin", "reward sound"}
    assert set(failures(found)) == {("plugin", "hooks")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import no_such_library",
            "'no_such_library', which is not installed: pip install no_such_library",
        ),
        ("from rlhf import hookimpl\n@hookimpl\ndef on_step_ended(): ...", "Did you mean 'on_step_end'?"),
        ("x = 1", "it adds nothing"),
        ("import os; os._exit(7)", "it ended the process, with exit code 7"),
        ("import os; os.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
    ],
)
def test_what_does_not_load_is_told_and_that_is_all(write: Write, text: str, said: str) -> None:
    found = check(write(text))
    assert [(f.part, f.check, f.outcome) for f in found] == [("plugin", "loads", "failed")]
    assert said in found[0].cause


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_plugin", "no plugin is called 'no_such_plugin'"),
        ("pokcet", "Did you mean 'pocket'?"),
        ("nowhere.py", "no file nowhere.py"),
        ("./nowhere", "nowhere has no pyproject.toml"),
    ],
)
def test_what_is_not_there_is_a_mistake_of_the_command(target: str, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        check(target)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_a_part_that_is_not_there(write: Write) -> None:
    with pytest.raises(PluginError, match=r"guest has no part 'wordly'\. Did you mean 'wordy'"):
        check(write(WRETCHED), wordly={"words": 3})


def test_built_in_rewards_keep_their_own_contract() -> None:
    found = check("rewards", constant={"value": 0.5})
    assert failures(found) == {}
    skipped = {f.part: f.cause for f in found if f.outcome == "skipped"}
    assert "the stage's reward model cannot be asked" in skipped["reward reward_model"]
    assert "needs 'grader': add graded.grader=VALUE" in skipped["reward graded"]


def test_rows_of_the_author_are_used(write: Write, tmp_path: Path) -> None:
    target = write("def f(completions, level):\n    return [float(x) for x in level]\n") + ":f"
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "Why?", "completion": "So.", "level": 2}) + "\n")
    found = list(check_target(target, {}, data, 60.0))
    assert failures(found) == {}
    assert next(f.cause for f in found if f.check == "answers") == "2 for every row"
    check_plugin(target, data=data)


TWINS = """
from rlhf import PartConfig, hookimpl
from rlhf.errors import ConfigError
from rlhf.types import Grade

class RewardConfig(PartConfig):
    words: int

class GraderConfig(PartConfig):
    path: str | None = None

class Reward:
    def __init__(self, config, parts):
        self.value = float(config.words)
    def __call__(self, rollouts):
        return [self.value] * len(rollouts)

class Grader:
    axis = "helpful"
    def __init__(self, config, parts):
        if config.path is None:
            raise ConfigError("twin needs `path`, a trained folder")
    def grade(self, rollouts):
        return [Grade(axis="helpful", score=1.0)] * len(rollouts)

@hookimpl
def register_rewards(register):
    register("twin", Reward, config=RewardConfig)

@hookimpl
def register_graders(register):
    register("twin", Grader, config=GraderConfig)
"""


def test_an_answer_that_differs_from_process_to_process_is_told(write: Write) -> None:
    text = """
        def first_word(completions):
            return [float(len(next(iter(set(text.split() or ["none"]))))) for text in completions]
        def words(completions):
            return [float(len(set(text.split()))) for text in completions]
    """
    path = write(text)
    assert set(failures(check(path + ":first_word"))) == {("reward first_word", "another process")}
    found = check(path + ":words")
    assert found[-1] == Finding("reward words", "another process", "ok")


def test_what_a_part_asks_for_is_a_reason_to_skip_and_no_failure(write: Write) -> None:
    found = {(f.part, f.check): f for f in check(write(TWINS))}
    assert found["reward twin", "default options"].cause == "needs 'words': add twin.words=VALUE to the command"
    assert found["grader twin", "builds"].outcome == "skipped"
    assert "twin needs `path`, a trained folder" in found["grader twin", "builds"].cause
    assert failures(list(found.values())) == {}


def test_options_reach_the_part_that_has_them(write: Write) -> None:
    found = check(write(TWINS), twin={"words": 4, "path": "folder"})
    assert {f.outcome for f in found} == {"ok"}
    assert [f.cause for f in found if f.check == "answers"] == ["1 for every row", "4 for every row"]
    wrong = failures(check(write(TWINS), twin={"words": 4, "pth": "folder"}))
    assert "twin.pth: unknown key. Did you mean 'path'?" in wrong["grader twin", "default options"]


# --- packages --------------------------------------------------------------------------------------------------------

REWARD = """
import {heavy}
from rlhf import hookimpl

def f(completions):
    return [1.0] * len(completions)

@hookimpl
def register_rewards(register):
    register("f", f)
"""


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    def write_package(module: str = "guest_module", heavy: str = "json", project: str | None = None) -> Path:
        folder = tmp_path / "rlhf-guest"
        (folder / "src" / "guest_module").mkdir(parents=True)
        (folder / "src" / "guest_module" / "__init__.py").write_text(REWARD.format(heavy=heavy))
        lines = f'[project]\nname = "rlhf-guest"\nversion = "2.1"\n[project.entry-points.rlhf]\nguest = "{module}"\n'
        (folder / "pyproject.toml").write_text(lines if project is None else project)
        return folder

    return write_package


def test_a_package_is_checked_where_it_lies(package: Callable[..., Path]) -> None:
    folder = package()
    before = sorted(folder.rglob("*.toml"))
    found = check(str(folder))
    assert failures(found) == {}
    assert {f.part for f in found} == {"plugin", "reward f"}
    assert sorted(folder.rglob("*.toml")) == before
    assert not list(folder.rglob("*.dist-info"))


def test_a_heavy_import_is_told(package: Callable[..., Path]) -> None:
    said = failures(check(str(package(heavy="torch"))))["plugin", "imports"]
    assert said.startswith("importing guest_module loads torch")


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ('[project]\nname = "rlhf-guest"\n', "declares no plugin"),
        ('[project]\nname = "g"\n[project.entry-points.rlfh]\nguest = "m"\n', "Did you mean 'rlhf' by 'rlfh'?"),
        ('[project]\nname = "g"\n[project.entry-points.rlhf]\nguest = "elsewhere.m"\n', "no module 'elsewhere'"),
        ("[project", "is not valid TOML"),
    ],
)
def test_a_folder_that_is_no_plugin_is_refused(package: Callable[..., Path], project: str, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        read_package_folder(package(project=project))
    assert said in str(caught.value)


# --- the package that `rlhf plugins new` makes -----------------------------------------------------------------------


SET_BY_A_RUN = (
    "DISABLE_SAFETENSORS_CONVERSION", "DS_ACCELERATOR", "GOMP_SPINCOUNT", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "RAY_CHDIR_TO_TRIAL_DIR", "RAY_USAGE_STATS_ENABLED", "TOKENIZERS_PARALLELISM",
)  # fmt: skip


def run(*argv: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    repo = Path(__file__).resolve().parents[3]
    places = [str(place) for place in (path, repo) if place is not None]
    own = {"PYTHONPATH": os.pathsep.join(places), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # What rlhf itself sets is here already, and an author's shell has none of it.
    environment = {name: value for name, value in os.environ.items() if name not in SET_BY_A_RUN} | own
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_new_package_passes_its_tests_installs_and_is_found(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "70.1", reason="needs setuptools to build without a network")
    made = run("-m", "rlhf", "plugins", "new", "Kind_Words", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "rlhf-kind-words"

    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert tested.returncode == 0, tested.stdout
    assert "5 passed" in tested.stdout

    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target")
    installed = run(*install, str(tmp_path / "site"), str(folder), cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    shown = run("-m", "rlhf", "plugins", "show", "kind-words", "--json", cwd=tmp_path, path=tmp_path / "site")
    info = json.loads(shown.stdout)
    assert (info["distribution"], info["version"], info["error"]) == ("rlhf-kind-words", "0.1.0", None)
    reward = next(part for part in info["parts"] if part["kind"] == "reward")
    assert reward["options"][0] == {
        "name": "words", "type": "int", "default": "50", "doc": "Words of an answer that is worth most."
    }  # fmt: skip
    checked = run("-m", "rlhf", "plugins", "check", "kind-words", "--json", cwd=tmp_path, path=tmp_path / "site")
    report = json.loads(checked.stdout)
    assert report["ok"] is True
    assert report["counts"].keys() == {"ok"}
    assert checked.returncode == 0
