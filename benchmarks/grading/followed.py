"""Instruction constraints: our verdicts against those of the reference checker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.grading.classifiers import read
from benchmarks.grading.measures import Line, estimated
from rlhf_ifeval.kinds import read_instructions
from rlhf_ifeval.verdicts import Verdict, judge

_VERDICTS: tuple[Verdict, ...] = ("strict", "loose")


def ifeval(data: Path) -> list[Line]:
    """Of each response, whether all its instructions are followed; and of each instruction. Nothing is fitted."""
    rows = read(data, "judge/ifeval_labelled.jsonl")
    instructions = [read_instructions(row["instruction_id_list"], row["kwargs"]) for row in rows]
    lines: list[Line] = []
    for verdict in _VERDICTS:
        said = [judge(mine, row["response"], verdict) for mine, row in zip(instructions, rows, strict=True)]
        wanted = [row[verdict] for row in rows]
        prompts = [row["prompt"] for row in rows]
        by_prompt = ([float(all(one)) for one in wanted], [float(all(one)) for one in said], prompts)
        each = [(w, s, p) for ws, ss, p in zip(wanted, said, prompts, strict=True) for w, s in zip(ws, ss, strict=True)]
        by_instruction = ([float(w) for w, _, _ in each], [float(s) for _, s, _ in each], [p for _, _, p in each])
        lines += _beside_the_majority(f"IFEval, {verdict}: all instructions of a response followed", by_prompt, "0.97")
        lines += _beside_the_majority(f"IFEval, {verdict}: an instruction followed", by_instruction, "")
    return lines


def _beside_the_majority(what: str, rows: tuple[list[float], list[float], list[str]], goal: str) -> list[Line]:
    wanted, said, prompts = rows
    commoner = np.full(len(wanted), float(np.mean(wanted) > 0.5))
    return [
        Line(what=what, split="no training", contender="ifeval", estimate=estimated(wanted, said, prompts), goal=goal),
        Line(what=what, split="no training", contender="majority", estimate=estimated(wanted, commoner, prompts)),
    ]
