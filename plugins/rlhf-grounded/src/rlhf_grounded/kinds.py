"""What is also something else: a singer is a musician, a town is a place. One way only, by stems, written by hand."""

from __future__ import annotations

from rlhf_grounded.stems import stem_of

_KINDS = """
artist: musician singer painter sculptor rapper songwriter
musician: singer guitarist drummer pianist bassist rapper violinist composer songwriter
singer: vocalist songwriter
writer: author novelist playwright screenwriter poet journalist essayist
performer: actor actress singer dancer comedian
actor: actress comedian
entertainer: actor actress singer comedian magician dancer
athlete: footballer quarterback runner swimmer boxer wrestler cricketer golfer gymnast skater cyclist
player: quarterback footballer guitarist forward defender goalkeeper pitcher midfielder striker
sportsman: footballer quarterback boxer cricketer golfer cyclist
politician: senator president governor mayor congressman minister chancellor
scientist: physicist chemist biologist astronomer geologist
filmmaker: director producer
parent: mother father
child: son daughter
sibling: brother sister
spouse: husband wife
relative: mother father son daughter brother sister uncle aunt cousin
place: city town village country state region island district suburb borough county municipality
location: city town village country state region island place
settlement: city town village suburb
city: capital
film: thriller movie comedy documentary sequel
movie: thriller film comedy documentary sequel
series: sitcom season episode drama show
show: sitcom series drama
program: sitcom series show
song: single ballad hit track
album: record
book: novel memoir autobiography novella biography
work: novel painting album film book poem
band: duo trio quartet group
group: band duo trio quartet team
team: club
company: firm corporation manufacturer retailer publisher business
organization: company charity agency association institution
school: college university academy
vehicle: car truck bus motorcycle train
animal: dog cat bird fish horse mammal reptile
building: skyscraper tower house palace museum church
worker: employee
war: conflict battle invasion
weapon: gun rifle sword
drug: medication medicine
disease: cancer disorder illness infection syndrome
illness: cancer disease disorder infection
"""


def _table() -> dict[str, frozenset[str]]:
    lines = [line.split(":") for line in _KINDS.strip().splitlines()]
    return {stem_of(kind): frozenset(map(stem_of, members.split())) for kind, members in lines}


_MEMBERS = _table()
_NOTHING: frozenset[str] = frozenset()


def is_kind(stem: str) -> bool:
    """Whether "the" with a word of this stem may stand for a thing that has a name: the film, the singer."""
    return stem in _MEMBERS


def members_of(kind: str) -> frozenset[str]:
    """The stems of what is also one of this stem."""
    return _MEMBERS.get(kind, _NOTHING)
