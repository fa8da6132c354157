"""Plugins: built-ins, installed packages and one-file plugins; what is broken is listed and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.errors import ConfigError, PluginError
from rlhf.hookspecs import API_VERSION
from rlhf.plugins import BUILT_INS, PluginInfo, Plugins, PluginSettings, compare_fingerprints, load_plugins
from rlhf.rewards.function import FunctionReward
from rlhf.types import Completion, Prompt, Rollout, Score

HOOKED = """
from rlhf import PartConfig, hookimpl

class Config(PartConfig):
    heft: float = 2.0

class Reward:
    def __init__(self, config, parts):
        self.heft = config.heft

@hookimpl
def register_rewards(register):
    register("short", lambda completions: [-float(len(t)) for t in completions])
    register("weighty", Reward, config=Config)

@hookimpl
def on_step_end(step, metrics):
    metrics["seen"] = float(step)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write_file(text: str, name: str = "guest.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    return write_file


def load(*paths: str, disable: tuple[str, ...] = ()) -> Plugins:
    return load_plugins(PluginSettings(paths=paths, disable=disable))


def info_of(plugins: Plugins, name: str) -> PluginInfo:
    (info,) = (info for info in plugins.infos if info.name == name)
    return info


def refusal(plugins: Plugins) -> str:
    with pytest.raises(PluginError) as caught:
        plugins.require_healthy()
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- built-ins -------------------------------------------------------------------------------------------------------


def test_built_ins_load_and_own_their_parts() -> None:
    plugins = load()
    plugins.require_healthy()
    assert [info.name for info in plugins.infos] == [module.split(".")[1] for module in BUILT_INS]
    assert all(info.origin == "built-in" and info.parts and info.hooks for info in plugins.infos)
    assert plugins.registry.get("algorithm", "ppo").owner == "algorithms"


# --- one file --------------------------------------------------------------------------------------------------------


def test_one_file_registers_parts_and_hooks(write: Callable[..., str]) -> None:
    plugins = load(write(HOOKED))
    plugins.require_healthy()
    info = info_of(plugins, "guest")
    assert info.parts == ("reward short", "reward weighty")
    assert info.hooks == ("on_step_end", "register_rewards")
    assert plugins.registry.build("reward", "weighty", {"heft": "3e-1"}, None).heft == 0.3
    with pytest.raises(ConfigError, match=r"reward\.hefy: unknown key\. Did you mean 'heft'\?"):
        plugins.registry.build("reward", "weighty", {"hefy": 1}, None, where="reward")
    metrics: dict[str, float] = {}
    plugins.hook.on_step_end(step=4, metrics=metrics)
    assert metrics == {"seen": 4.0}


def test_classes_of_a_file_are_importable_by_name(write: Callable[..., str]) -> None:
    factory = load(write(HOOKED)).registry.get("reward", "weighty").factory
    assert factory.__module__.startswith("rlhf_plugin_guest_")
    assert getattr(sys.modules[factory.__module__], "Reward") is factory  # noqa: B009 - the name is what is tested


def test_the_same_file_has_one_module_name_in_every_folder(write: Callable[..., str]) -> None:
    here, there = write(HOOKED), write(HOOKED, "sub/guest.py")
    modules = {load(path).registry.get("reward", "weighty").factory.__module__ for path in (here, there)}
    assert len(modules) == 1


def test_an_edited_file_is_imported_anew(write: Callable[..., str]) -> None:
    path = write("def f(completions): return [1.0 for _ in completions]\n")
    assert load(f"{path}:f").registry.get("reward", "f").factory(["a"]) == [1.0]
    write("def f(completions): return [2.0 for _ in completions]\n")
    assert load(f"{path}:f").registry.get("reward", "f").factory(["a"]) == [2.0]


def test_function_of_a_file_is_a_reward(write: Callable[..., str]) -> None:
    plugins = load(write("def short(completions):\n    return [-float(len(t)) for t in completions]\n") + ":short")
    plugins.require_healthy()
    assert info_of(plugins, "guest").parts == ("reward short",)
    rollout = Rollout(
        prompt=Prompt(id="0", text="q"),
        completion=Completion(token_ids=(1,), logprobs=(0.0,), text="four", finish_reason="stop"),
    )
    assert FunctionReward("short", plugins.registry.get("reward", "short").factory)([rollout]) == [Score(value=-4.0)]


def test_function_a_hook_registers_too_is_one_reward(write: Callable[..., str]) -> None:
    plugins = load(write(HOOKED.replace('"weighty"', '"short_too"')) + ":short")
    plugins.require_healthy()
    assert info_of(plugins, "guest").parts == ("reward short", "reward short_too")


@pytest.mark.parametrize("specs", [("", ":a"), (":a", ""), (":a", ":b"), ("", "")])
def test_a_file_named_twice_is_one_plugin(write: Callable[..., str], specs: tuple[str, str]) -> None:
    path = write("def a(completions): ...\ndef b(completions): ...\n")
    plugins = load(*(path + spec for spec in specs))
    plugins.require_healthy()
    expected = {f"reward {spec[1:]}" for spec in specs if spec}
    assert set(info_of(plugins, "guest").parts) == expected


def test_function_that_is_not_there(write: Callable[..., str]) -> None:
    plugins = load(write("def shorter(completions): ...\n") + ":short")
    assert "it has no function 'short'. Did you mean 'shorter'?" in refusal(plugins)


def test_function_named_like_a_built_in_reward(write: Callable[..., str]) -> None:
    plugins = load(write("def constant(completions): ...\n") + ":constant")
    message = refusal(plugins)
    assert "'constant'" in message
    assert "'rewards'" in message
    assert "'guest'" in message
    assert plugins.registry.get("reward", "constant").owner == "rewards"


def test_missing_file_suggests_its_neighbour(write: Callable[..., str], tmp_path: Path) -> None:
    write("", "guest.py")
    plugins = load(str(tmp_path / "gest.py"))
    assert "no such file" in refusal(plugins)
    assert "Did you mean 'guest.py'?" in refusal(plugins)


# --- what is broken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import no_such_module",
            "it needs the module 'no_such_module', which is not installed: pip install no_such_module",
        ),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:\n", "SyntaxError"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        (
            "from rlhf import hookimpl\n@hookimpl\ndef on_step_ended(step, metrics): ...\n",
            "no hook is called 'on_step_ended'. Did you mean 'on_step_end'? `rlhf hooks` lists them",
        ),
        (
            "from rlhf import hookimpl\n@hookimpl\ndef on_step_end(step, metrix): ...\n",
            "hook 'on_step_end' has no parameter 'metrix'. Did you mean 'metrics'? It may take: step, metrics",
        ),
        (
            "from rlhf import hookimpl\n@hookimpl\ndef register_rewards(register):\n    register('x', 3)\n",
            "register('x', ...) wants a callable, given int",
        ),
        (
            "__rlhf_api__ = 2\nfrom rlhf import hookimpl\n@hookimpl\ndef on_a_later_hook(): ...\n",
            "written for version 2 of the hooks (__rlhf_api__), and this rlhf has version 1; install a newer rlhf",
        ),
        ("__rlhf_api__ = 0\n", "and this rlhf has version 1; install a newer version of the plugin"),
        ("__rlhf_api__ = '1'\n", "__rlhf_api__ is a whole number, as in __rlhf_api__ = 1; given '1'"),
        (
            "from rlhf import hookimpl\n@hookimpl\ndef register_rewards(register):\n    register('constant', print)\n",
            "two rewards are called 'constant': one of plugin 'rewards', one of 'guest'",
        ),
    ],
)
def test_broken_plugin_is_listed_and_refused(write: Callable[..., str], text: str, said: str) -> None:
    path = write(text)
    plugins = load(path)
    info = info_of(plugins, "guest")
    assert info.error is not None
    assert said in info.error
    assert not info.parts
    message = refusal(plugins)
    assert message.startswith(f"plugin 'guest' ({path}) cannot be loaded: ")
    assert "plugins.disable: [guest]" in message


def test_a_plugin_may_name_the_version_of_the_hooks_there_is(write: Callable[..., str]) -> None:
    plugins = load(write(f"__rlhf_api__ = {API_VERSION}\n{HOOKED}"))
    plugins.require_healthy()
    assert info_of(plugins, "guest").parts


def test_broken_plugin_leaves_nothing_behind(write: Callable[..., str]) -> None:
    text = HOOKED + "\n@hookimpl\ndef register_graders(register):\n    register('constant')\n"
    plugins = load(write(text))
    assert info_of(plugins, "guest").error
    assert "short" not in plugins.registry.names("reward")
    metrics: dict[str, float] = {}
    plugins.hook.on_step_end(step=1, metrics=metrics)
    assert metrics == {}


def test_two_guests_with_one_part_name_are_both_named(write: Callable[..., str]) -> None:
    plugins = load(write(HOOKED, "first.py"), write(HOOKED + "\n", "second.py"))
    message = refusal(plugins)
    assert "two rewards are called 'short': one of plugin 'first', one of 'second'" in message
    assert load(write(HOOKED, "first.py"), write(HOOKED + "\n", "second.py"), disable=("second",)).infos


def test_two_files_of_one_name_do_not_take_each_others_parts(write: Callable[..., str]) -> None:
    plugins = load(write(HOOKED), write("", "sub/guest.py"))
    assert "another plugin is already called 'guest'" in refusal(plugins)
    assert plugins.registry.get("reward", "short").owner == "guest"


def test_disabled_plugin_is_listed_and_not_loaded(write: Callable[..., str]) -> None:
    path = write("raise SystemExit('it ran')")
    plugins = load(path, disable=("guest",))
    plugins.require_healthy()
    assert info_of(plugins, "guest").disabled
    assert "guest" not in plugins.fingerprints()


def test_disabled_built_in_frees_its_names(write: Callable[..., str]) -> None:
    path = write(HOOKED.replace('"short"', '"constant"'))
    plugins = load(path, disable=("rewards",))
    plugins.require_healthy()
    assert plugins.registry.get("reward", "constant").owner == "guest"


def test_disabling_what_is_not_there_is_an_error() -> None:
    with pytest.raises(PluginError, match=r"no plugin is called 'pokcet'\. Did you mean 'pocket'\?"):
        load(disable=("pokcet",))


def test_disabled_file_may_be_missing(tmp_path: Path) -> None:
    load(str(tmp_path / "gone.py"), disable=("gone",)).require_healthy()


# --- installed packages ----------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_entry_points: None) -> Callable[..., None]:
    """Install a distribution with an entry point, for this test only."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, module: str, text: str | None, version: str = "1.0", needs: str = "") -> None:
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        (info / "entry_points.txt").write_text(f"[rlhf]\n{name} = {module}\n")
        if text is not None:
            (tmp_path / f"{module}.py").write_text(text)

    return install


def test_installed_package_is_found(package: Callable[..., None]) -> None:
    package("kindness", "kindness_installed", HOOKED, version="2.1")
    plugins = load()
    plugins.require_healthy()
    info = info_of(plugins, "kindness")
    assert info.origin == "package kindness 2.1"
    assert info.parts == ("reward short", "reward weighty")


def test_broken_package_is_named_with_its_version(package: Callable[..., None]) -> None:
    package("unkindness", "no_module_of_this_name", None)
    message = refusal(load())
    assert message.startswith(
        "plugin 'unkindness' (package unkindness 1.0) cannot be loaded: it needs the module 'no_module_of_this_name', "
        "which is not installed, and unkindness does not say which package has it"
    )
    load(disable=("unkindness",)).require_healthy()


@pytest.mark.parametrize(
    ("needed", "command"),
    [
        ("no-such.library>=2", "pip install no-such.library"),
        ("no_such_library[fast] ; extra == 'judge'", "pip install 'grim[judge]'"),
    ],
)
def test_what_a_package_lacks_comes_with_the_command_that_installs_it(
    package: Callable[..., None], needed: str, command: str
) -> None:
    package("grim", "grim_module", "import no_such_library.part\n", needs=needed)
    error = info_of(load(), "grim").error
    assert error == f"it needs the module 'no_such_library', which is not installed: {command}"


def test_one_broken_package_does_not_hide_another(package: Callable[..., None]) -> None:
    package("aaa_broken", "no_module_of_this_name", None)
    package("zzz_sound", "zzz_sound_module", HOOKED)
    plugins = load()
    assert info_of(plugins, "aaa_broken").error
    assert info_of(plugins, "zzz_sound").parts


# --- the same everywhere ---------------------------------------------------------------------------------------------

FINGERPRINTS = """
import json, sys
from rlhf.plugins import PluginSettings, load_plugins
print(json.dumps(load_plugins(PluginSettings.model_validate_json(sys.argv[1])).fingerprints()))
"""


def fingerprints_of_a_worker(settings: PluginSettings) -> dict[str, str]:
    """Of a fresh process that is given the settings as plain data."""
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINTS, settings.model_dump_json()], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_worker_agrees_until_a_file_is_edited(write: Callable[..., str]) -> None:
    settings = PluginSettings(paths=(write(HOOKED),))
    driver = load_plugins(settings).fingerprints()
    worker = fingerprints_of_a_worker(settings)
    assert worker == driver
    compare_fingerprints(driver, worker, "worker 3")
    write(HOOKED + "\n# edited\n")
    edited = fingerprints_of_a_worker(settings)
    with pytest.raises(PluginError, match="plugin 'guest' differs on worker 3"):
        compare_fingerprints(driver, edited, "worker 3")


def test_worker_without_a_plugin_is_refused() -> None:
    with pytest.raises(PluginError, match="plugin 'guest' is missing on worker 0"):
        compare_fingerprints({"guest": "a"}, {}, "worker 0")
    with pytest.raises(PluginError, match="plugin 'guest' is unknown on worker 0"):
        compare_fingerprints({}, {"guest": "a"}, "worker 0")
    compare_fingerprints({"guest": "a"}, {"guest": "a"}, "worker 0")


# --- the tutorial ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["brevity.py", "brevity.py:brevity"])
def test_tutorial_plugin_prefers_short_answers(repo_root: Path, spec: str) -> None:
    plugins = load(str(repo_root / "plugins" / spec))
    plugins.require_healthy()
    assert info_of(plugins, "brevity").parts == ("reward brevity",)
    short, middling, long = plugins.registry.get("reward", "brevity").factory(["no", "a b c", "word " * 40])
    assert 1 > short > middling > 0 > long


def test_a_reward_file_that_is_not_there_cannot_be_left_out() -> None:
    with pytest.raises(PluginError) as caught:
        load_plugins(PluginSettings(paths=("nope.py:f",))).require_healthy()
    assert str(caught.value).endswith("Mend it")
    with pytest.raises(PluginError, match=r"leave it out with plugins\.disable: \[nope\]"):
        load_plugins(PluginSettings(paths=("nope.py",))).require_healthy()
