"""The trackers that come with the package."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.tracking.tensorboard import TensorBoard, TensorBoardConfig


@hookimpl
def register_trackers(register: Register) -> None:
    """`tensorboard`."""
    register("tensorboard", TensorBoard, config=TensorBoardConfig)
