"""clusters/container: what the image holds and who it runs as; and its steps, taken in a clean root."""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest

from tests.unit.clusters.container_steps import ROOT, Built, bare_root, steps

FILE = ROOT / "clusters" / "container" / "Containerfile"


def of(word: str) -> list[str]:
    return [rest for name, rest in steps(FILE) if name == word]


def test_what_it_runs_is_not_root() -> None:
    words = [word for word, _ in steps(FILE)]
    assert of("USER") == ["1000:1000"]
    assert words.index("USER") < words.index("CMD")


def test_versions_are_the_pinned_ones_and_extras_exist() -> None:
    (installed,) = [command for command in of("RUN") if "pip install" in command]
    assert "-c constraints.txt" in installed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {rest.partition("=")[2] for rest in of("ARG") if rest.startswith("EXTRAS")} <= set(extras)


def test_what_is_copied_is_here_and_sent_to_the_builder() -> None:
    sent = (FILE.parent / "Containerfile.dockerignore").read_text(encoding="utf-8").split()
    assert sent[0] == "*"
    for source in [name for copied in of("COPY") for name in copied.split()[:-1]]:
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


def test_no_secret_and_no_address_is_in_it() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not any(word in text for word in ("TOKEN", "PASSWORD", "SECRET", "://"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.skipif(
    shutil.which("debootstrap") is None or os.geteuid() != 0, reason="needs root, and Debian's package debootstrap"
)
def test_its_steps_work_in_a_clean_root() -> None:
    # Not below `tmp_path`, which another pytest may clean up while something is mounted in it.
    with tempfile.TemporaryDirectory() as above, bare_root(Path(above) / "root") as folder:
        built = Built(folder, {"EXTRAS": "ray,deepspeed"})  # the others are more of the same, and gigabytes
        for word, rest in steps(FILE):
            built.take(word, rest)
        assert built.run(["id", "-u"]).strip() == "1000"
        assert "type: grpo" in built.run(["rlhf", "train", "grpo", "--dry-run"])
        said = built.run(["rlhf", "plan", "quickstart", "--devices", "1x16GB", "--json"])
        assert '"fits": true' in said
        assert "ray" in built.run(built.command)
