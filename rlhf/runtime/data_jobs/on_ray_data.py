"""Blocks on Ray Data: a pool of actors takes them; the object store sees their places and summaries, never the rows."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
import ray.data
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from rlhf.data.curation.blocks import Block
from rlhf.errors import RunError, UserError, WorkerDied
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.data_jobs.block_runs import BlockWork, Place
from rlhf.runtime.session import ray_session

_OBJECT_STORE_BYTES = 80 * 2**20
"""Near the least that Ray takes: what passes through it are summaries of some kilobytes."""
_MOST_DEATHS = 2
"""Ray Data itself would start a worker anew without end: a block that kills its worker would be tried for ever."""


class BlockWorker:
    """An actor of the pool; what the work needs is loaded once."""

    def __init__(self, work: BlockWork) -> None:
        self._process = work.open()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Work on the block of a row."""
        block = Block(**json.loads(row["block"]))
        return {"number": block.number, "summary": json.dumps(self._process(block))}


def results_on_ray(work: BlockWork, blocks: Sequence[Block], place: Place) -> Iterator[tuple[Block, dict[str, Any]]]:
    """Blocks with their summaries, as they are done. Where a worker dies, the blocks that are left are tried again."""
    waiting = {block.number: block for block in blocks}
    deaths = 0
    with data_session(place):
        while waiting:
            try:
                for number, summary in _pass(work, list(waiting.values()), place):
                    yield waiting.pop(number), summary
            except RayError as error:
                cause = _cause(work.stage, error)
                deaths += isinstance(cause, WorkerDied)
                if not isinstance(cause, WorkerDied) or deaths > _MOST_DEATHS:
                    raise cause from None


def _pass(work: BlockWork, blocks: Sequence[Block], place: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    workers = min(len(blocks), place.workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    rows = ray.data.from_items(
        [{"block": json.dumps(asdict(block))} for block in blocks], override_num_blocks=len(blocks)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # there is no named parameter for restarts
        done = rows.map(
            BlockWorker,  # type: ignore[arg-type]  # a class is for actors
            fn_constructor_args=(work,),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            max_restarts=0,
        )
    for row in done.iter_rows():
        yield int(row["number"]), json.loads(row["summary"])


@contextmanager
def data_session(place: Place) -> Iterator[None]:
    """A private cluster with a small object store, or one that runs already; the same one within another."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # ours, and not one that only names it
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with ray_session(RuntimeConfig(address=place.address), object_store_memory=_OBJECT_STORE_BYTES):
        yield


def _cause(stage: str, error: BaseException) -> Exception:
    """Our own error where a block raised one; a worker that died before what Ray makes of it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RunError | UserError):
            return seen
        if isinstance(seen, RayActorError):
            return WorkerDied(
                f"{stage}: a worker died {_MOST_DEATHS + 1} times: killed, out of memory (the kernel's log says so), "
                "or crashed; blocks that are done are kept, go on with --resume"
            )
        seen = seen.cause if isinstance(seen, RayTaskError) and seen.cause is not seen else seen.__cause__
    return RunError(f"{stage} failed: {type(error).__name__}: {str(error).strip().splitlines()[-1]}")
