"""What the package adds, that loading it is light, and that it imports public names of rlhf alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import rlhf_3h

GRADERS = "refusal jailbroken harmful_content truthful abstains relevant complete preferred".split()


def test_every_grader_is_registered_with_options_and_training() -> None:
    found = {}
    rlhf_3h.register_graders(lambda name, factory, config: found.update({name: (factory, config)}))
    assert sorted(found) == sorted(GRADERS)
    for name, (factory, config) in found.items():
        assert factory.task.name == name
        assert "path" in config.model_fields
        assert callable(factory.train)


def test_registering_loads_nothing_heavy() -> None:
    code = (
        "import sys, rlhf_3h; rlhf_3h.register_graders(lambda *a, **k: None); "
        "print([m for m in ('numpy', 'scipy', 'sklearn', 'safetensors', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_only() -> None:
    public = {"rlhf", "rlhf.types", "rlhf.protocols", "rlhf.functional", "rlhf.errors"}
    for file in Path(rlhf_3h.__file__).parent.glob("*.py"):
        imported = set(re.findall(r"^\s*(?:from|import) (rlhf(?:\.\w+)*)\b(?!_)", file.read_text(), re.MULTILINE))
        assert imported <= public, file.name
