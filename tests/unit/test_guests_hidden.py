"""Tests do not see the plugins of whatever else is installed (tests/conftest.py), unless they ask."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest


@pytest.fixture
def installed_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlhf]\nguest = guest_module\n\n[other]\nguest = guest_module\n")
    monkeypatch.syspath_prepend(tmp_path)


def guests(group: str) -> list[str]:
    return [e.name for e in importlib.metadata.entry_points(group=group) if e.value == "guest_module"]


@pytest.mark.usefixtures("installed_guest")
def test_guest_is_hidden() -> None:
    assert guests("rlhf") == []


@pytest.mark.usefixtures("installed_guest")
def test_other_groups_are_left_alone() -> None:
    assert guests("other") == ["guest"]
    assert importlib.metadata.entry_points() is not None


@pytest.mark.usefixtures("installed_guest", "real_entry_points")
def test_guest_is_seen_by_a_test_that_asks() -> None:
    assert guests("rlhf") == ["guest"]
