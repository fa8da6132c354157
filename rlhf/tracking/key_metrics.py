"""Which figures a reader wants to see first, by the kind of stage."""

from __future__ import annotations

from collections.abc import Mapping

# The first row whose leading name was logged is shown; a stage is recognised by what it measures.
KEY_METRICS: tuple[tuple[str, ...], ...] = (
    ("reward/accuracy", "reward/margin", "reward/loss", "policy/loss"),
    ("reward/mean", "policy/kl_to_reference", "policy/approx_kl", "rollout/length"),
    ("preference/accuracy", "preference/margin", "policy/loss"),
    ("preference/chosen_reward", "preference/rejected_reward", "policy/loss"),
    ("policy/loss", "policy/grad_norm", "policy/lr"),
)
_ALARMS = ("reward/failed", "data/dropped")  # shown only when they are not zero


def key_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The few metrics to show in one line, in the order to show them; all of them where none is known."""
    names = next((row for row in KEY_METRICS if row[0] in metrics), tuple(metrics)[:4])
    shown = {name: metrics[name] for name in names if name in metrics}
    return shown | {name: metrics[name] for name in _ALARMS if metrics.get(name)}
