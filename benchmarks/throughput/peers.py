"""The older TRL that still had PPO, installed beside the environment, not into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRL_WITH_PPO = "trl==1.12.0"


def install(folder: Path) -> str | None:
    """Install it into `folder` unless it is there; says why not where that fails."""
    if (folder / "trl").is_dir():
        return None
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--no-deps", "--target", str(folder), TRL_WITH_PPO], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else f"pip cannot install {TRL_WITH_PPO}: {done.stderr.strip()[-200:]}"
