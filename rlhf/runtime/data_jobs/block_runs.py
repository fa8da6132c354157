"""A stage of a job run over the blocks of a file: those that are not done yet, here or on Ray Data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rlhf.data.curation.blocks import Block
from rlhf.errors import Interrupted
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file
from rlhf.runtime.interruption import Interruption
from rlhf.tracking.progress import progress_for

ProcessBlock = Callable[[Block], dict[str, Any]]


class BlockWork(Protocol):
    """What is done with each block: plain data, which goes to a worker as it is."""

    @property
    def stage(self) -> str:
        """Its name, in files and in the progress shown."""
        ...

    def open(self) -> ProcessBlock:
        """Load what the work needs, once a process; what comes back writes a block's files and tells a summary."""
        ...


@dataclass(frozen=True)
class Place:
    """Where blocks are worked on."""

    type: Literal["inline", "ray"] = "inline"
    address: str | None = None
    """A running Ray cluster, which sees the same files; a private one on this machine where absent."""
    workers: int | None = None
    """Processes on Ray; one a CPU where absent."""


@contextmanager
def at_work(place: Place) -> Iterator[None]:
    """The place is ready for as long as a job takes: stages within share one Ray. SIGINT and SIGTERM end what is within
    after the block at hand.
    """
    with ExitStack() as entered:
        if place.type == "ray":
            from rlhf.runtime.data_jobs.on_ray_data import data_session

            entered.enter_context(data_session(place))
        # In this order: Ray takes SIGTERM for itself when it starts.
        entered.enter_context(Interruption.caught(_note))
        yield


def _note(text: str) -> None:
    print(text.replace(", with a checkpoint", " after this block"), file=sys.stderr)


def run_blocks(work: BlockWork, blocks: Sequence[Block], folder: JobFolder, place: Place) -> Iterator[dict[str, Any]]:
    """Finish the stage, then yield the summaries of its blocks in order.

    Raises `Interrupted` after SIGINT or SIGTERM, and what a block raises; blocks that are done stay done.
    """
    waiting = [block for block in blocks if not block_file(folder.path, work.stage, block.number, ".done").exists()]
    if waiting:
        _finish(work, waiting, len(blocks), folder, place)
    folder.require_unchanged()
    for block in blocks:
        summary = folder.summary(work.stage, block.number)
        assert summary is not None, f"{work.stage} of block {block.number}"
        yield summary


def _finish(work: BlockWork, waiting: Sequence[Block], total: int, folder: JobFolder, place: Place) -> None:
    progress = progress_for(sys.stderr)
    progress.start(work.stage, total, total - len(waiting))
    done = total - len(waiting)
    interruption = Interruption.current()
    try:
        for block, summary in _results(work, waiting, place):
            folder.finish_block(work.stage, block.number, summary)
            done += 1
            progress.update(done, {})
            if interruption.requested:
                raise Interrupted(
                    f"{work.stage}: {done} of {total} blocks are done and kept in {folder.path}; go on with --resume",
                    interruption.exit_code,
                )
    except BaseException:
        progress.finish(None)
        raise
    progress.finish({})


def _results(work: BlockWork, blocks: Sequence[Block], place: Place) -> Iterator[tuple[Block, dict[str, Any]]]:
    if place.type == "ray":
        from rlhf.runtime.data_jobs.on_ray_data import results_on_ray

        return results_on_ray(work, blocks, place)
    process = work.open()
    return ((block, process(block)) for block in blocks)
