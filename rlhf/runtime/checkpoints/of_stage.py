"""The checkpoints of a planned stage, for the run itself and for the driver, which asks before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlhf.runtime.checkpoints.manifest import Origin
from rlhf.runtime.checkpoints.provenance import world_sizes
from rlhf.runtime.checkpoints.remote import require_upload
from rlhf.runtime.checkpoints.store import Checkpoints
from rlhf.runtime.ranks import Ranks

if TYPE_CHECKING:
    from rlhf.runtime.plan import StagePlan


def origin_of(plan: StagePlan) -> Origin:
    """Which run and stage its checkpoints say they are of."""
    return Origin(run=plan.run, stage=plan.name, recipe=plan.identity)


def stage_checkpoints(plan: StagePlan, note: Callable[[str], None], ranks: Ranks | None = None) -> Checkpoints:
    """Where the stage's checkpoints are, as its recipe says; `note` is told what a user should know."""
    return Checkpoints(
        plan.folder / "checkpoints",
        plan.config.checkpoint,
        origin_of(plan),
        world_sizes(plan),
        ranks=ranks or Ranks(),
        note=note,
    )


def newest_good(plan: StagePlan, note: Callable[[str], None]) -> int:
    """The step a resumed stage goes on from, 0 where it begins anew. Sets aside what is damaged, fetches what is newer.

    Raises `RunError` where there are checkpoints and none is good.
    """
    path = stage_checkpoints(plan, note).newest_good()
    return 0 if path is None else int(path.name.removeprefix("step-"))


def require_upload_place(plan: StagePlan) -> None:
    """Refuse a `checkpoint.upload` that cannot be opened or belongs to another run. Raises `ConfigError`."""
    if plan.config.checkpoint.upload is not None:
        require_upload(plan.config.checkpoint.upload, origin_of(plan))
