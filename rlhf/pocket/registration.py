"""The embedded world's parts, registered through the same hooks as a guest's."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.pocket.dataset import PocketConfig, PocketDataset
from rlhf.pocket.graders import HarmlessGrader, HelpfulGrader, HonestGrader
from rlhf.pocket.rewards import GoldReward, GoldRewardConfig
from rlhf.registry import Register


@hookimpl
def register_rewards(register: Register) -> None:
    """Add `pocket_gold`."""
    register("pocket_gold", GoldReward, config=GoldRewardConfig)


@hookimpl
def register_graders(register: Register) -> None:
    """Add `pocket_helpful`, `pocket_honest` and `pocket_harmless`, which take no options."""
    register("pocket_helpful", lambda _config, _parts: HelpfulGrader())
    register("pocket_honest", lambda _config, _parts: HonestGrader())
    register("pocket_harmless", lambda _config, _parts: HarmlessGrader())


@hookimpl
def register_datasets(register: Register) -> None:
    """Add `pocket`."""
    register("pocket", PocketDataset, config=PocketConfig)
