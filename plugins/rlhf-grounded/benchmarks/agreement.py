"""Agreement of the rules with people's labels: the figures of the README.

    python benchmarks/agreement.py DATA        # DATA holds honest/fever_symmetric_v02.jsonl and others

The rules were written with one half of each set in view and are judged on the other, which shares no claim, passage or
question with it. Intervals: 95 %, bootstrap over groups of rows that share a claim, a passage or a question.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.types import Completion, Prompt, Rollout
from rlhf_grounded.claims import Claim, claims_of
from rlhf_grounded.grounded import GroundedReward
from rlhf_grounded.matching import Bag
from rlhf_grounded.options import GroundedConfig
from rlhf_grounded.verdict import judge
from rlhf_grounded.words import content, words_of

Row = dict[str, Any]
Group = list[float]
"""What came of each row of a group: 1 right, 0 wrong, 0.5 undecided."""

_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "``": '"', "''": '"'}
SUPPORTED, ABOVE = "supported or not", "right above made up"
_HALUEVAL = ("halueval_qa_one_turn", "halueval_qa_multi_turn")


@dataclass(frozen=True)
class Figure:
    """What came of the rows of some data, and what its rivals do there: theirs, or a share known without looking."""

    data: str
    measure: str
    groups: Sequence[Group]
    rivals: Mapping[str, Sequence[Group] | float] = field(default_factory=dict)


def main(data: Path) -> None:
    """Print every figure."""
    print("| data | measure | rows | this package | baselines |\n|---|---|---|---|---|")
    for figure in figures(data):
        told = (
            f"{name} {r:.2f}" if isinstance(r, float) else f"{name} {_shown(r)}" for name, r in figure.rivals.items()
        )
        count = sum(map(len, figure.groups))
        print(f"| {figure.data} | {figure.measure} | {count} | {_shown(figure.groups)} | {', '.join(told) or '-'} |")


def figures(data: Path) -> Iterator[Figure]:
    """All there are, of both halves."""
    yield from _fever(_rows(data, "fever_symmetric_v02"))
    for name in _HALUEVAL:
        yield from _halueval(name, _rows(data, name))
    yield from _halueval_in_documents(_rows(data, _HALUEVAL[0]))
    yield from _general(_rows(data, "halueval_general"))


# --- FEVER symmetric: claim and evidence -----------------------------------------------------------------------------


def _fever(rows: Sequence[Row]) -> Iterator[Figure]:
    seen, unseen = _halves([[_clean(row) for row in group] for group in _groups(rows)])
    threshold = max((0.1 * tenth for tenth in range(11)), key=lambda t: _mean(_by_overlap(seen, t)))
    for half, groups in (("seen half", seen), ("unseen half", unseen)):
        name = f"FEVER symmetric, {half}"
        verdicts = [[(_supports(r), _finding(r)) for r in group] for group in groups]
        right = [[float((found == "supported") == gold) for gold, found in group] for group in verdicts]
        yield Figure(name, SUPPORTED, right, {"majority": 0.5, "word overlap": _by_overlap(groups, threshold)})
        for finding in ("supported", "contradicted"):
            wanted = finding == "supported"
            said = [[float(gold == wanted) for gold, found in group if found == finding] for group in verdicts]
            yield Figure(name, f"precision of `{finding}`", said, {"majority": 0.5})


def _by_overlap(groups: Sequence[Sequence[Row]], threshold: float) -> list[Group]:
    def right(row: Row) -> float:
        return float((_overlap(row["claim"], row["evidence"]) >= threshold) == _supports(row))

    return [[right(row) for row in group] for group in groups]


def _finding(row: Row) -> str:
    return judge(Claim(row["claim"]), row["evidence"]).finding


def _overlap(claim: str, evidence: str) -> float:
    return Bag(words_of(evidence)).share(content(words_of(claim)))


def _supports(row: Row) -> bool:
    return bool(row["gold_label"] == "SUPPORTS")


def _clean(row: Row) -> Row:
    def plain(text: str) -> str:
        for code, sign in _BRACKETS.items():
            text = text.replace(code, sign)
        return text

    return row | {"claim": plain(row["claim"]), "evidence": plain(row["evidence"])}


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that share a claim or a passage, with all that share one with those."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            text = parent[text]
        return text

    for row in rows:
        parent[root("c" + row["claim"])] = root("e" + row["evidence"])
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(root("c" + row["claim"]), []).append(row)
    return [groups[name] for name in sorted(groups)]


def _halves(groups: list[list[Row]]) -> tuple[list[list[Row]], list[list[Row]]]:
    shuffled = groups[:]
    random.Random(0).shuffle(shuffled)
    return shuffled[: len(groups) // 2], shuffled[len(groups) // 2 :]


# --- HaluEval QA: a right and a made-up answer to a question, with the passage ---------------------------------------


def _halueval(name: str, rows: Sequence[Row]) -> Iterator[Figure]:
    reward = GroundedReward(GroundedConfig(column="knowledge", no_claims=0.0), None)  # type: ignore[arg-type]
    half = len(rows) // 2
    for which, part in (("seen half", rows[:half]), ("unseen half", rows[half:])):
        yield from _pairs(f"{name}, {which}", part, reward)
        yield from _pairs(f"{name}, {which}, mere phrases", [row for row in part if _are_phrases(row)], reward)


def _pairs(name: str, rows: Sequence[Row], reward: GroundedReward) -> Iterator[Figure]:
    def compare(worth: Callable[[Row, str], float]) -> list[tuple[float, float]]:
        return [(worth(row, "right_answer"), worth(row, "hallucinated_answer")) for row in rows]

    def told_apart(pairs: Sequence[tuple[float, float]]) -> list[Group]:
        return [[float(right >= 1), float(wrong < 1)] for right, wrong in pairs]

    ours = compare(lambda row, key: _worth(reward, row, key))
    overlap = told_apart(compare(lambda row, key: _overlap(row[key], row["knowledge"])))
    verbatim = told_apart(compare(lambda row, key: float(row[key].strip(" .").lower() in row["knowledge"].lower())))
    rivals = {"majority": 0.5, "word overlap": overlap, "verbatim in the passage": verbatim}
    yield Figure(name, SUPPORTED, told_apart(ours), rivals)
    shorter = [[_above(right, wrong)] for right, wrong in compare(lambda row, key: -float(len(row[key])))]
    above = [[_above(*pair)] for pair in ours]
    yield Figure(name, ABOVE, above, {"chance": 0.5, "the shorter": shorter})


def _halueval_in_documents(rows: Sequence[Row]) -> Iterator[Figure]:
    """The passages of all questions as the user's documents: the right one must be found first."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "passages.jsonl"
        texts = list(dict.fromkeys(row["knowledge"].strip() for row in rows))
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        reward = GroundedReward(GroundedConfig(documents=(str(file),), no_claims=0.0), None)  # type: ignore[arg-type]
        yield from _pairs(f"{_HALUEVAL[0]}, unseen half, {len(texts)} documents", rows[len(rows) // 2 :], reward)


def _worth(reward: GroundedReward, row: Row, key: str) -> float:
    score = reward([_rollout(row["question"], row[key], {"knowledge": row["knowledge"]})])[0]
    assert score.value is not None, score.error
    return score.value


def _rollout(question: str, answer: str, metadata: Row) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), text=answer, finish_reason="stop")
    return Rollout(prompt=Prompt(id="row", text=question, metadata=metadata), completion=completion)


def _are_phrases(row: Row) -> bool:
    """Whether neither answer is a sentence, so that length and form do not give the made-up one away."""
    both = [claims_of(row[key], row["question"]) for key in ("right_answer", "hallucinated_answer")]
    return all(len(claims) == 1 and claims[0].fragment for claims in both)


def _above(one: float, other: float) -> float:
    return 0.5 if one == other else float(one > other)


# --- HaluEval general: no evidence, so only what is taken for a claim can be told ------------------------------------


def _general(rows: Sequence[Row]) -> Iterator[Figure]:
    marked: list[Group] = []
    for row in rows:
        if row["hallucination"] != "yes":
            continue
        claimed = " ".join(" ".join(claim.text.split()) for claim in claims_of(row["chatgpt_response"], ""))
        spans = [" ".join(span.split()).strip(" .,") for span in row["hallucination_spans"]]
        inside = [span for span in spans if span and span in " ".join(row["chatgpt_response"].split())]
        marked.append([float(span in claimed) for span in inside])
    yield Figure("halueval_general", "spans marked by people that are taken for claims", marked)
    none = [[float(not claims_of(row["chatgpt_response"], row["user_query"]))] for row in rows]
    yield Figure("halueval_general", "answers without any claim", none)


# --- figures ---------------------------------------------------------------------------------------------------------


def _shown(groups: Sequence[Group]) -> str:
    """The mean over rows, and its interval."""
    chance = random.Random(0)
    kept = [group for group in groups if group]
    means = sorted(_mean(chance.choices(kept, k=len(kept))) for _ in range(1000))
    return f"{_mean(kept):.2f} ({means[25]:.2f}-{means[974]:.2f})"


def _mean(groups: Sequence[Group]) -> float:
    return sum(map(sum, groups)) / max(1, sum(map(len, groups)))


def _rows(data: Path, name: str) -> list[Row]:
    text = (data / "honest" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
