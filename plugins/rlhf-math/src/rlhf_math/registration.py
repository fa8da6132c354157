"""What `rlhf` calls. Loads none of the libraries that do the maths: they live in processes of their own."""

from __future__ import annotations

from collections.abc import Callable

from rlhf import hookimpl
from rlhf_math.boxed import Boxed, BoxedConfig
from rlhf_math.countdown import Countdown, CountdownConfig
from rlhf_math.gsm8k import Gsm8k, Gsm8kConfig
from rlhf_math.verified import Verified, VerifiedConfig


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Add `math_verify`, `gsm8k`, `boxed` and `countdown`."""
    register("math_verify", Verified, config=VerifiedConfig)
    register("gsm8k", Gsm8k, config=Gsm8kConfig)
    register("boxed", Boxed, config=BoxedConfig)
    register("countdown", Countdown, config=CountdownConfig)
