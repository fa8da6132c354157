"""A trainer's weights into a network that generates: every tensor or an error, never a stale one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from transformers import PreTrainedModel

from rlhf.errors import RunError, nearest


def load_strictly(network: PreTrainedModel, weights: Iterator[tuple[str, Tensor]]) -> None:
    """Copy every weight into place. Raises `RunError` naming a missing, unknown or mis-shaped tensor.

    Two names of one tensor (tied embeddings) must both come and agree: a head sent without its twin, or with another
    value, would leave the engine sampling from another policy than the one that is trained.
    """
    places = network.state_dict()
    loaded: dict[str, Tensor] = {}
    written: dict[int, str] = {}
    for name, tensor in weights:
        if name not in places:
            raise RunError(f"the trainer sent a weight the rollout model has not: {name!r}.{nearest(name, places)}")
        place = places[name]
        if place.shape != tensor.shape:
            raise RunError(f"weight {name!r} was sent as {tuple(tensor.shape)}; the model has {tuple(place.shape)}")
        twin = written.setdefault(place.data_ptr(), name)
        if twin != name and not place.equal(tensor.to(place.device, place.dtype)):
            raise RunError(f"weights {twin!r} and {name!r} are tied in the rollout model but differ in the trainer")
        place.copy_(tensor)
        loaded[name] = place
    if missing := sorted(places.keys() - loaded.keys()):
        raise RunError(f"the trainer did not send {len(missing)} weights of the rollout model, such as {missing[0]!r}")
