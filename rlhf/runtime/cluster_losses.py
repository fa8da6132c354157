"""What a cluster is about to lose, nodes or its head: a checkpoint is saved before they go."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray

from rlhf.runtime.interruption import Interruption

POLL_SECONDS = 5.0
GRACE_S = 40.0
"""To finish the step and save. Ray ends every process of a cluster, this one too, 60 s after its head."""


@contextmanager
def losses_watched(note: Callable[[str], None], way_back: str, left: threading.Event) -> Iterator[None]:
    """Inside, a node that Ray begins to drain has the run save after the step it is at: what is on the node dies with
    it, and the stage is then begun again from there, on what the cluster has left.

    A head that is lost has the run save and stop, as SIGTERM does. Leaving a cluster without a head takes for ever:
    where `left` is not set in time, this process ends without it, once it has said how to go on.
    """
    over = threading.Event()
    head = ray.get_runtime_context().gcs_address

    def watch() -> None:
        known: set[str] = set()
        while not over.wait(POLL_SECONDS):
            if not (_answers(head) or over.wait(1.0) or _answers(head)):
                note(f"the head of the cluster, {head}, does not answer: saving, and stopping before Ray ends this run")
                os.kill(os.getpid(), signal.SIGTERM)
                if not left.wait(GRACE_S):
                    _leave(f"interrupted: stopped without the head of the cluster; continue with: {way_back}")
                return
            new: set[str] = set()
            with suppress(Exception):  # a head that goes this moment, which the next look tells
                new = set(_draining()) - known
            known |= new
            if new:
                note(f"the cluster drains node {', '.join(sorted(node[:8] for node in new))}: saving after this step")
                Interruption.current().save_soon()

    thread = threading.Thread(target=watch, daemon=True, name="cluster losses")
    thread.start()
    try:
        yield
    finally:
        over.set()


def _leave(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(128 + signal.SIGTERM)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=POLL_SECONDS).close()
    except OSError:
        return False
    return True


def _draining() -> dict[str, int]:
    """Deadlines in ms by node. Ray has no public name for it; Ray Train asks in the same way."""
    nodes: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return nodes
