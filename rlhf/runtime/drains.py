"""Nodes that a cluster is about to lose: a checkpoint is saved before they go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from rlhf.runtime.interruption import Interruption

POLL_SECONDS = 5.0


@contextmanager
def drains_watched(note: Callable[[str], None]) -> Iterator[None]:
    """Inside, a node that Ray begins to drain has the run save after the step it is at.

    What is on the node dies with it, and the stage is then begun again from there, on what the cluster has left.
    """
    over = threading.Event()

    def watch() -> None:
        known: set[str] = set()
        while not over.wait(POLL_SECONDS):
            try:
                new = set(_draining()) - known
            except Exception as error:  # noqa: BLE001 - a cluster that does not answer, of which the run itself tells
                note(f"nodes that the cluster drains are no longer watched for: {error}")
                return
            known |= new
            if new:
                note(f"the cluster drains node {', '.join(sorted(node[:8] for node in new))}: saving after this step")
                Interruption.current().save_soon()

    thread = threading.Thread(target=watch, daemon=True, name="drains")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _draining() -> dict[str, int]:
    """Deadlines in ms by node. Ray has no public name for it; Ray Train asks in the same way."""
    nodes: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return nodes
