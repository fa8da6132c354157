"""Critique and revise: a model points out where an answer breaks a principle, and rewrites it.

The rewritten answers are demonstrations for SFT, or the chosen side of pairs whose rejected side is what was revised
(the first phase of arXiv:2212.08073).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rlhf.errors import ConfigError, DataError, RunError
from rlhf_judge.constitution.principles import Principle, in_turn, read_constitution
from rlhf_judge.endpoint import Answer, Endpoint, Question
from rlhf_judge.faults import Unreadable
from rlhf_judge.fences import WARNING, fenced
from rlhf_judge.settings import EndpointConfig
from rlhf_judge.template import turns_text
from rlhf_judge.usage import Usage

Kind = Literal["preference", "demonstrations"]
ROWS_AT_ONCE = 256

_CRITIC = f"You review the answers of AI assistants and say plainly what is wrong with them. {WARNING}"
_EDITOR = f"You rewrite the answers of AI assistants as an editor asks. {WARNING}"
_CRITIQUE = """\
{conversation}

{answer}

{request}
Write a critique of a few sentences, of this answer and nothing else. If there is nothing to criticise, say so."""
_REVISION = """\
{conversation}

{answer}

A critic wrote of it:
{critique}

{request}
Write the new answer alone: no preface, no mention of the critique. If nothing needs to change, repeat the answer."""


@dataclass(frozen=True, kw_only=True)
class Revisions:
    """What `revise` did: rows `written` to `path`, `unchanged` answers (no pair can be made of one), and by its number
    from 1 each row that `failed`, with the reason.
    """

    path: Path
    written: int
    unchanged: int
    failed: Mapping[int, str]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A row on its way through the rounds."""

    number: int
    prompt: Any
    conversation: str
    original: str
    answer: str
    notes: tuple[Mapping[str, str], ...] = ()
    error: str | None = None


def revise(
    rows: str | Path | Sequence[Mapping[str, Any]],
    out: str | Path,
    endpoint: EndpointConfig,
    *,
    constitution: str | Path | Sequence[str] | None = None,
    rounds: int = 1,
    kind: Kind = "preference",
    seed: int = 0,
) -> Revisions:
    """Revise the answers of `rows` by a constitution, and write what came of it as JSONL that `rlhf` reads.

    `rows` is a JSONL file or a list, each row with `prompt` (text or turns) and `completion`. In each round each row
    meets one principle, drawn by its text and `seed`, none twice before all had their turn. A line of `out` is
    `{prompt, chosen, rejected, revisions}` (preference) or `{prompt, completion, revisions}` (demonstrations), where
    `revisions` tells each round's principle and critique. A row that fails is left out and told in the result. `out`
    appears when all is done; until then, and after an interruption, the finished rows are in `out` + `.partial`.

    Raises:
        ConfigError: the constitution, the key or an argument; DataError: a row, named by its number.
        RunError: not one row could be revised; holds the first row's reason.
    """
    if rounds < 1:
        raise ConfigError(f"rounds must be 1 or more, given {rounds}")
    if kind not in ("preference", "demonstrations"):
        raise ConfigError(f"kind must be 'preference' or 'demonstrations', given {kind!r}")
    principles, asked = read_constitution(constitution), Endpoint(endpoint)
    drafts = [_draft(number, row) for number, row in enumerate(_read(rows), 1)]
    path = Path(out)
    partial = path.with_name(path.name + ".partial")
    written, unchanged, failed = 0, 0, {}
    with partial.open("w", encoding="utf-8") as file:
        for start in range(0, len(drafts), ROWS_AT_ONCE):
            for draft in _revised(drafts[start : start + ROWS_AT_ONCE], asked, principles, rounds, seed):
                if draft.error is not None:
                    failed[draft.number] = draft.error
                elif kind == "preference" and draft.answer == draft.original:
                    unchanged += 1
                else:
                    file.write(json.dumps(_row(draft, kind), ensure_ascii=False) + "\n")
                    written += 1
            file.flush()
    if drafts and len(failed) == len(drafts):
        partial.unlink()
        raise RunError(f"none of {len(drafts)} rows could be revised; row 1: {failed[1]}")
    partial.replace(path)
    return Revisions(path=path, written=written, unchanged=unchanged, failed=failed, usage=asked.usage)


def _revised(
    drafts: Sequence[_Draft], endpoint: Endpoint, principles: Sequence[Principle], rounds: int, seed: int
) -> list[_Draft]:
    for number in range(rounds):
        drawn = [in_turn(principles, number, f"{seed}\n{d.conversation}\n{d.original}") for d in drafts]
        critiques = endpoint.ask([_critique(d, p) for d, p in zip(drafts, drawn, strict=True)])
        revisions = endpoint.ask([_revision(d, p, c) for d, p, c in zip(drafts, drawn, critiques, strict=True)])
        drafts = [_next(*step) for step in zip(drafts, drawn, critiques, revisions, strict=True)]
    return list(drafts)


def _next(draft: _Draft, principle: Principle, critique: Answer[str], revision: Answer[str]) -> _Draft:
    if critique.value is None or revision.value is None:
        return replace(draft, error=critique.error or revision.error)
    note = {"principle": principle.id, "critique": critique.value}
    return replace(draft, answer=revision.value, notes=(*draft.notes, note))


def _critique(draft: _Draft, principle: Principle) -> Question[str] | Answer[str]:
    texts = {"conversation": draft.conversation, "answer": draft.answer}
    return _question(_CRITIC, _CRITIQUE, texts, principle.critique, draft.error)


def _revision(draft: _Draft, principle: Principle, critique: Answer[str]) -> Question[str] | Answer[str]:
    texts = {"conversation": draft.conversation, "answer": draft.answer, "critique": critique.value or ""}
    return _question(_EDITOR, _REVISION, texts, principle.revision, critique.error)


def _question(
    system: str, template: str, texts: Mapping[str, str], request: str, error: str | None
) -> Question[str] | Answer[str]:
    if error is not None:
        return Answer(error=error)
    user = template.format(**fenced(texts), request=request)
    messages = ({"role": "system", "content": system}, {"role": "user", "content": user})
    return Question(messages=messages, parse=_text, reminder="Write the text that was asked for.")


def _text(answer: str) -> str:
    text = answer.rpartition("</think>")[2].strip()
    if not text:
        raise Unreadable("its answer is empty")
    return text


def _row(draft: _Draft, kind: Kind) -> dict[str, Any]:
    notes = {"revisions": list(draft.notes)}
    if kind == "preference":
        return {"prompt": draft.prompt, "chosen": draft.answer, "rejected": draft.original} | notes
    return {"prompt": draft.prompt, "completion": draft.answer} | notes


def _draft(number: int, row: Any) -> _Draft:
    prompt = row.get("prompt") if isinstance(row, Mapping) else None
    answer = row.get("completion") if isinstance(row, Mapping) else None
    if isinstance(prompt, str):
        conversation = prompt
    elif isinstance(prompt, list) and prompt and all(_is_turn(turn) for turn in prompt):
        conversation = turns_text(prompt)
    else:
        raise DataError(f"row {number}: `prompt` must be text or a list of turns (role, content)")
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(f"row {number}: `completion` must be text, and not empty")
    return _Draft(number=number, prompt=prompt, conversation=conversation, original=answer, answer=answer)


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)


def _read(rows: str | Path | Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    if not isinstance(rows, str | Path):
        yield from rows
        return
    try:
        lines = Path(rows).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"rows {str(rows)!r} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DataError(f"{rows}, line {number}: not JSON ({error})") from None
