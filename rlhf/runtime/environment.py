"""Environment variables that libraries read once, when they are loaded; set before any of them is."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_environment() -> None:
    """What suits several processes on one machine; whatever the user has set stays."""
    # Threads spin for a moment, since the next product is usually soon in coming, and then sleep: processes share the
    # cores, and ten times as long more than halves the speed of two of them (benchmarks/LOG.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps a warning off the terminal
    # A model without safetensors is refused; transformers would have a service convert it, and load what that sends.
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # a recipe's relative paths mean the same in every process
    if not Path("/dev/nvidiactl").exists():
        # transformers loads DeepSpeed wherever it is installed, which otherwise prints what it looked for in vain.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
