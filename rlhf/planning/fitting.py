"""What would fit: changes to a recipe, each computed as a whole before it is proposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rlhf.config import LoraConfig
from rlhf.planning.replica import Work
from rlhf.planning.spread import Spread
from rlhf.planning.stage import Place, RoleNeeds, StageNeeds, places

Change = Callable[[RoleNeeds], RoleNeeds]


@dataclass(frozen=True)
class Proposal:
    """Overrides of the recipe, and what the fullest device would then need."""

    overrides: tuple[str, ...]
    tightest: Place


def proposals(needs: StageNeeds, most: int = 4) -> list[Proposal]:
    """The smallest changes that fit; single ones first, then two and three together."""
    found: list[Proposal] = []
    for options in _combinations(needs):
        changed = needs
        for option in options:
            changed = _applied(changed, option)
        if changed == needs or any(set(p.overrides) <= _words(options) for p in found):
            continue
        spots = places(changed)
        if all(place.fits for place in spots):
            tightest = max(spots, key=lambda place: place.needed / (place.available or float("inf")))
            found.append(Proposal(tuple(sorted(_words(options))), tightest))
        if len(found) == most:
            break
    return found


@dataclass(frozen=True)
class _Option:
    name: str
    override: str
    change: Change


def _words(options: tuple[_Option, ...]) -> set[str]:
    return {option.override for option in options}


def _applied(needs: StageNeeds, option: _Option) -> StageNeeds:
    return replace(needs, roles=tuple(option.change(role) for role in needs.roles))


def _combinations(needs: StageNeeds) -> Iterator[tuple[_Option, ...]]:
    options = list(_options(needs))
    yield from ((option,) for option in options)
    for count, first in enumerate(options):
        yield from ((first, second) for second in options[count + 1 :] if first.name != second.name)
    by_name = {option.name: option for option in options}
    for names in (
        ("checkpointing", "micro", "lora"),
        ("checkpointing", "micro", "zero"),
        ("checkpointing", "micro", "qlora"),
    ):
        if all(name in by_name for name in names):
            yield tuple(by_name[name] for name in names)


def _options(needs: StageNeeds) -> Iterator[_Option]:
    """In the order of what they cost the user."""
    budget, longest = needs.batches.micro_batch_tokens, needs.batches.lengths.longest
    for tokens in (budget // 2, budget // 4, longest):
        if tokens < budget:
            yield _Option(
                "micro",
                f"engine.micro_batch_tokens={max(tokens, longest)}",
                _smaller(max(tokens, longest), needs.batches.rows_each),
            )
    yield _Option("checkpointing", "model.gradient_checkpointing=true", _checkpointed)
    ranks = max((role.spread.ranks for role in needs.roles if role.work.trains), default=1)
    if ranks > 1:
        yield _Option("zero", "engine.zero_stage=3", _zero(3))
        if needs.machine.device == "cuda":
            yield _Option("offload", "engine.offload_optimizer=true", _offloaded)
    if all(role.work.lora is None for role in needs.roles if role.work.trains):
        yield _Option("lora", "model.lora.rank=16", _lora(quantised=False))
        yield _Option("qlora", "model.lora.quantize=nf4", _lora(quantised=True))


def _smaller(tokens: int, each: int) -> Change:
    def change(role: RoleNeeds) -> RoleNeeds:
        rows = max(1, tokens // (role.work.width * each)) * each
        return replace(role, work=role.work.of(min(rows, role.work.rows), role.work.width))

    return change


def _checkpointed(role: RoleNeeds) -> RoleNeeds:
    return replace(role, work=replace(role.work, checkpointing=True)) if role.work.trains else role


def _zero(stage: int) -> Change:
    def change(role: RoleNeeds) -> RoleNeeds:
        spread: Spread = replace(role.spread, engine="deepspeed", zero_stage=stage)
        return replace(role, spread=spread) if role.work.trains else role

    return change


def _offloaded(role: RoleNeeds) -> RoleNeeds:
    if not role.work.trains:
        return role
    stage = role.spread.zero_stage or 2
    return replace(role, spread=replace(role.spread, engine="deepspeed", zero_stage=stage, offload_optimizer=True))


def _lora(*, quantised: bool) -> Change:
    def change(role: RoleNeeds) -> RoleNeeds:
        if not role.work.trains:
            return role
        work: Work = replace(role.work, lora=LoraConfig(rank=16), weights=role.work.compute, quantised=quantised)
        return replace(role, work=work)

    return change
