"""A trainer's weights into a network that generates: every tensor or an error, never a stale one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor
from transformers import PreTrainedModel

from rlhf.engines.export import held_weights
from rlhf.engines.lora import is_adapter
from rlhf.errors import RunError, nearest


def load_strictly(network: PreTrainedModel, weights: Iterator[tuple[str, Tensor]]) -> None:
    """Copy every weight into place. Raises `RunError` naming a missing, unknown or mis-shaped tensor, or one of
    another format.

    Two names of one tensor (tied embeddings) must both come and agree: a head sent without its twin, or with another
    value, would leave the engine sampling from another policy than the one that is trained. Where only adapters come,
    all of them must, and what they stand on stays.
    """
    places = held_weights(network)
    names = Counter(place.data_ptr() for place in places.values())
    loaded: dict[str, Tensor] = {}
    tied: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in weights:
        place = _place_of(name, tensor, places)
        loaded[name] = place
        if names[place.data_ptr()] > 1:
            # The first is kept, and alive, so that a second of the same memory need not be read again.
            twin, first = tied.setdefault(place.data_ptr(), (name, tensor))
            if twin != name:
                if tensor.data_ptr() != first.data_ptr() and not place.equal(tensor.to(place.device)):
                    raise _differ(twin, name)
                continue
        place.copy_(tensor)
    _require_all(loaded, places)


def checked_weights(
    weights: Iterator[tuple[str, Tensor]], places: Mapping[str, Tensor], twins: Mapping[str, str]
) -> list[tuple[str, Tensor]]:
    """All weights, for an engine that puts them into place itself; `twins` are names of the same tensor.

    Raises `RunError` as `load_strictly` does.
    """
    sent = {}
    for name, tensor in weights:
        _place_of(name, tensor, places)
        sent[name] = tensor
    _require_all(sent, places)
    for name, twin in twins.items():
        if name in sent and not sent[name].equal(sent[twin]):
            raise _differ(twin, name)
    return list(sent.items())


def _place_of(name: str, tensor: Tensor, places: Mapping[str, Tensor]) -> Tensor:
    if name not in places:
        raise RunError(f"the trainer sent a weight the rollout model has not: {name!r}.{nearest(name, places)}")
    place = places[name]
    if place.shape != tensor.shape:
        raise RunError(f"weight {name!r} was sent as {tuple(tensor.shape)}; the model has {tuple(place.shape)}")
    if place.dtype != tensor.dtype:
        raise RunError(
            f"weight {name!r} was sent in {_format(tensor)}; the rollout engine holds it in {_format(place)}: trainer "
            "and engine must compute in one format (model.dtype)"
        )
    return place


def _format(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _require_all(sent: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> None:
    only_adapters = bool(sent) and all(map(is_adapter, sent))
    wanted = {name for name in places if is_adapter(name) or not only_adapters}
    if missing := sorted(wanted - sent.keys()):
        raise RunError(f"the trainer did not send {len(missing)} weights of the rollout model, such as {missing[0]!r}")


def _differ(name: str, twin: str) -> RunError:
    return RunError(f"weights {name!r} and {twin!r} are tied in the rollout model but differ in the trainer")
