"""Words that deny one another: negations, antonyms, and sets of which only one can be true of a thing at a time.

Written by hand, English but for the Chinese negations of one character. What is missing here makes `not found` of
what should be `contradicted`.
"""

from __future__ import annotations

NEGATIONS = frozenset(
    "not never no none nobody nothing nowhere neither nor without cannot hardly barely scarcely n't zero fails failed "
    "fail failing refuse refused refuses refusing unable incapable unwilling decline declined declines deny denied "
    "denies denying lack lacked lacks lacking avoid avoided avoids prevent prevented prevents false untrue "
    "unsuccessful unsuccessfully except neglected yet 不 没 沒 未 非".split()
)

_ANTONYMS = """
best/worst biggest/smallest largest/smallest highest/lowest most/least longest/shortest oldest/youngest oldest/newest
older/younger larger/smaller bigger/smaller higher/lower longer/shorter more/less more/fewer greater/lesser
greater/smaller taller/shorter earlier/later faster/slower hotter/colder stronger/weaker heavier/lighter better/worse
richer/poorer deepest/shallowest richest/poorest strongest/weakest fastest/slowest first/last
increase/decrease rise/fall rising/falling grow/shrink gain/loss win/lose won/lost winner/loser succeed/fail
success/failure successful/unsuccessful accept/reject accept/decline allow/forbid allow/ban allowed/banned
legal/illegal start/end begin/end began/ended start/stop start/finish open/close opened/closed opening/closing
birth/death born/died alive/dead living/dead living/extinct living/deceased live/studio before/after early/late
above/below over/under inside/outside within/outside north/south east/west northern/southern eastern/western
left/right front/back top/bottom upper/lower up/down near/far arrive/depart enter/leave join/leave joined/left
import/export buy/sell bought/sold married/unmarried married/single married/divorced employed/unemployed
true/false correct/incorrect right/wrong possible/impossible able/unable known/unknown popular/unpopular
famous/obscure common/rare often/rarely always/never everyone/nobody all/none many/few full/empty rich/poor
strong/weak hot/cold warm/cool wet/dry hard/soft old/new old/young ancient/modern large/small big/small big/little
high/low long/short tall/short wide/narrow deep/shallow heavy/light fast/slow easy/difficult easy/hard simple/complex
good/bad good/evil positive/negative praise/criticize praised/criticized acclaimed/panned love/hate like/dislike
loved/hated friend/enemy ally/enemy public/private military/civilian professional/amateur fictional/real
fiction/nonfiction fictional/factual animated/live-action guilty/innocent convicted/acquitted agree/disagree
approve/disapprove support/oppose supported/opposed supporter/opponent include/exclude included/excluded
including/excluding unite/divide united/divided build/destroy built/destroyed create/destroy created/destroyed
attack/defend attacked/defended victory/defeat urban/rural domestic/foreign native/foreign native/invasive
active/inactive temporary/permanent major/minor majority/minority maximum/minimum mainland/island solo/group
protagonist/antagonist hero/villain liberal/conservative democrat/republican democratic/republican
independent/dependent voluntary/compulsory optional/mandatory safe/dangerous safe/unsafe beneficial/harmful
healthy/unhealthy poisonous/edible toxic/harmless retired/active highly/barely highly/hardly only/also
failed/succeeded passed/failed threaten/increase man/woman men/women male/female boy/girl husband/wife
actor/actress father/mother son/daughter brother/sister king/queen prince/princess uncle/aunt
"""

_SETS = """
january february march april may june july august september october november december
monday tuesday wednesday thursday friday saturday sunday
spring summer autumn winter
red orange yellow green blue purple pink brown black white grey
africa europe asia antarctica oceania
african european asian
solid liquid gas
bronze silver gold
american british canadian mexican brazilian argentine argentinian chilean colombian cuban english scottish welsh irish
    french german italian spanish portuguese dutch belgian swiss austrian swedish norwegian danish finnish icelandic
    polish russian ukrainian czech slovak hungarian romanian bulgarian serbian croatian greek turkish israeli iranian
    iraqi egyptian nigerian ghanaian kenyan moroccan indian pakistani bangladeshi chinese japanese korean taiwanese
    vietnamese thai filipino indonesian malaysian australian jamaican
germany france italy spain portugal england scotland wales ireland austria sweden norway denmark finland iceland
    poland russia ukraine hungary romania bulgaria serbia croatia greece turkey israel iran iraq egypt nigeria ghana
    kenya morocco india pakistan bangladesh china japan korea taiwan vietnam thailand philippines indonesia malaysia
    australia jamaica canada mexico brazil argentina chile colombia cuba belgium switzerland netherlands
"""


def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    groups = [pair.split("/") for pair in _ANTONYMS.split()]
    groups += [line.split() for line in _SETS.strip().replace("\n    ", " ").splitlines()]
    for group in groups:
        for word in group:
            table.setdefault(word, set()).update(other for other in group if other != word)
    return {word: frozenset(others) for word, others in table.items()}


_DENIALS = _table()
_NOTHING: frozenset[str] = frozenset()


def denials_of(word: str) -> frozenset[str]:
    """The words that deny this one (lower case): its antonyms, and the others of its set."""
    return _DENIALS.get(word, _NOTHING)
