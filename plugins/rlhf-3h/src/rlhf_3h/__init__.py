"""Helpful, honest and harmless graders that work offline on a CPU, for `rlhf`."""

from __future__ import annotations

from collections.abc import Callable

from rlhf import hookimpl


@hookimpl
def register_graders(register: Callable[..., None]) -> None:
    """Add them all; nothing heavy is loaded before one is built."""
    from rlhf_3h.abstains import Abstains, AbstainsConfig
    from rlhf_3h.harmful_content import HarmfulContent, HarmfulContentConfig
    from rlhf_3h.jailbroken import Jailbroken
    from rlhf_3h.preferred import Preferred
    from rlhf_3h.refusal import Refusal, RefusalConfig
    from rlhf_3h.relevant import Complete, Relevant
    from rlhf_3h.trained import TrainedConfig
    from rlhf_3h.truthful import Truthful, TruthfulConfig

    register("refusal", Refusal, config=RefusalConfig)
    register("jailbroken", Jailbroken, config=TrainedConfig)
    register("harmful_content", HarmfulContent, config=HarmfulContentConfig)
    register("truthful", Truthful, config=TruthfulConfig)
    register("abstains", Abstains, config=AbstainsConfig)
    register("relevant", Relevant, config=TrainedConfig)
    register("complete", Complete, config=TrainedConfig)
    register("preferred", Preferred, config=TrainedConfig)
