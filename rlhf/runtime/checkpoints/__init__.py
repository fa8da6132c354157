"""Checkpoints to resume from: complete or absent, never in between; verified before anything is loaded from them.

`store` saves, finds and removes them, in the order that a power cut at any moment cannot harm; `manifest` says what is
in one, `verifying` whether it still is; `upload` copies them elsewhere. See docs/checkpoints.md.
"""

from __future__ import annotations

from rlhf.runtime.checkpoints.durable import publish, sync_tree, write_whole
from rlhf.runtime.checkpoints.manifest import MANIFEST, DamagedCheckpoint, Manifest, Origin, read_manifest
from rlhf.runtime.checkpoints.of_stage import newest_good, require_upload_place, stage_checkpoints
from rlhf.runtime.checkpoints.provenance import package_versions
from rlhf.runtime.checkpoints.saving import Saves
from rlhf.runtime.checkpoints.state import read_state
from rlhf.runtime.checkpoints.store import WRITE_FAILURES, Checkpoints
from rlhf.runtime.checkpoints.verifying import verify

__all__ = [
    "MANIFEST",
    "WRITE_FAILURES",
    "Checkpoints",
    "DamagedCheckpoint",
    "Manifest",
    "Origin",
    "Saves",
    "newest_good",
    "package_versions",
    "publish",
    "read_manifest",
    "read_state",
    "require_upload_place",
    "stage_checkpoints",
    "sync_tree",
    "verify",
    "write_whole",
]
