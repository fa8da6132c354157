"""The process-wide random generators, set at each step, so that none of their states need be saved."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Python's, numpy's and torch's. Nothing that ships here draws from them on the driver; a guest's method may."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what a guest draws by `np.random.shuffle` and the like
    torch.manual_seed(seed)
