"""The verdict by another grader in place of the rules, for instance a language model.

It is given, for each claim, a rollout whose prompt asks for one sentence that the passages show to be true, with the
passages in the prompt and as the reference, and the claim as its completion. Its score, 0 to 1, says how true the claim
is to the passages: from `SUPPORTED` up it is supported, up to `CONTRADICTED` it is contradicted, in between not found.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.protocols import Grader
from rlhf.types import Completion, Grade, Prompt, Rollout
from rlhf_grounded.evidence import Asked, EvidenceError, Passage
from rlhf_grounded.findings import Found
from rlhf_grounded.verdict import Finding

SUPPORTED = 0.7
CONTRADICTED = 0.3

_ASK = """Below are passages of documents. Write one sentence that the passages show to be true. {question}
The best sentence is wholly supported by the passages (1); one they say nothing about is neither right nor wrong (0.5);
one they contradict is the worst (0).

{passages}"""


def judged_by(
    grader: Grader, asked: Sequence[Asked], evidence: Sequence[Sequence[Passage]]
) -> list[Found | EvidenceError]:
    """What the grader makes of each claim, given its passages; its errors stay errors."""
    with_passages = [number for number, passages in enumerate(evidence) if passages]
    grades = grader.grade([_rollout(asked[number], evidence[number]) for number in with_passages])
    results: list[Found | EvidenceError] = [Found(one.claim, "not found", "no passage was found") for one in asked]
    for number, grade in zip(with_passages, grades, strict=True):
        results[number] = _found(asked[number], evidence[number], grade)
    return results


def _rollout(asked: Asked, passages: Sequence[Passage]) -> Rollout:
    claim = asked.claim
    text = "\n\n".join(f"[{passage.source}]\n{passage.text}" for passage in passages)
    question = f"It answers this question: {claim.question}" if claim.fragment else ""
    prompt = Prompt(
        id=f"{asked.rollout.prompt.id}/claim",
        text=_ASK.format(question=question, passages=text).strip(),
        reference=text,
        metadata={"question": claim.question},
    )
    said = f"No. (The question was: {claim.text}?)" if claim.denies else claim.text
    return Rollout(prompt=prompt, completion=Completion(token_ids=(), logprobs=(), text=said, finish_reason="stop"))


def _found(asked: Asked, passages: Sequence[Passage], grade: Grade) -> Found | EvidenceError:
    if grade.score is None:
        return EvidenceError(f"judge: {grade.error or 'it gave neither a score nor an error'}")
    finding: Finding = "not found"
    if grade.score >= SUPPORTED:
        finding = "supported"
    elif grade.score <= CONTRADICTED:
        finding = "contradicted"
    reason = f"judged {grade.score:.2f}" + (f": {grade.rationale}" if grade.rationale else "")
    return Found(asked.claim, finding, reason, passages[0])
