"""The helpful graders on data sets they were not trained on, and pairs that people have ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grading.classifiers import read
from benchmarks.grading.measures import Floats, Line, estimated, ranked_right
from rlhf_3h.fitting import fit, inputs_of, targets_of
from rlhf_3h.linear import LinearModel
from rlhf_3h.pairs import fit_pairs
from rlhf_3h.preferred import PreferredTask
from rlhf_3h.refusal import RefusalTask
from rlhf_3h.relevant import CompleteTask, RelevantTask
from rlhf_3h.task import Item, Task

ANOTHER = "another file"
_ANSWERED = ("sft/dolly_eval_200.jsonl", "sft/gpteacher_roleplay.jsonl")
Pair = tuple[str, str, str]
"""Question, better answer, worse answer."""


def relevant(data: Path) -> list[Line]:
    """Own or another's answer, whole or cut, on instructions of other data sets."""
    rows = [row for name in _ANSWERED for row in read(data, name)]
    pandalm = [
        {"prompt": r["instruction"], "input": r["input"], "completion": str(r["response1"])}
        for r in read(data, "judge/pandalm_testset.jsonl")
    ]
    chatgpt = [
        {"prompt": r["user_query"], "completion": r["chatgpt_response"]}
        for r in read(data, "honest/halueval_general.jsonl")
    ]
    lines = []
    for task, what in ((RelevantTask(), "its own answer or another's"), (CompleteTask(), "whole or cut answer")):
        model = _trained(task, rows)
        for name, tests in (("ChatGPT's (HaluEval)", chatgpt), ("base models' (PandaLM)", pandalm)):
            lines += _told_apart(task, model, f"{what}: {name}", tests)
    return lines


def _told_apart(task: Task, model: LinearModel, what: str, rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    examples = task.examples(rows)
    wanted = targets_of(task, examples)[:, 0]
    said = model.probabilities(inputs_of(task, [e.item for e in examples]))[:, 0]
    groups = [example.item.question for example in examples]
    commoner = np.full(len(wanted), float(wanted.mean() > 0.5))
    return [
        Line(what=what, split=ANOTHER, contender=name, estimate=estimated(wanted, scores, groups))
        for name, scores in ((task.name, said), ("majority", commoner))
    ]


def pairs(data: Path) -> list[Line]:
    """Which of two answers do people prefer? Ties are left out."""
    answered = [row for name in _ANSWERED for row in read(data, name)]
    helpful = PreferredTask()
    transcripts = helpful.examples(read(data, "pref/hh_helpful_base_test.jsonl"))
    contenders: dict[str, tuple[Task, LinearModel]] = {
        "preferred": (helpful, fit_pairs(helpful, inputs_of(helpful, [e.item for e in transcripts]))),
    }
    for task in (RelevantTask(), CompleteTask()):
        contenders[task.name] = (task, _trained(task, answered))
    refusal = RefusalTask()
    refusals = {"refusal": (refusal, _trained(refusal, read(data, "harmless/xstest_completions_labelled.jsonl")))}
    lines = []
    for what, ranked in _judged(data).items():
        mine = contenders | (refusals if what.endswith("harmless") else {})
        lines += _ranked(what, ranked, mine)
    return lines


def _ranked(what: str, ranked: Sequence[Pair], contenders: Mapping[str, tuple[Task, LinearModel]]) -> list[Line]:
    groups = [question for question, _, _ in ranked]
    gaps = {name: _gap(task, model, ranked) for name, (task, model) in contenders.items()}
    gaps["the longer one"] = np.array([float(len(better) - len(worse)) for _, better, worse in ranked])
    gaps["coin"] = np.zeros(len(ranked))
    return [
        Line(
            what=what, split=ANOTHER, contender=name, measure="pairs",
            estimate=estimated(np.ones(len(ranked)), gap, groups, ranked_right),
        )
        for name, gap in gaps.items()
    ]  # fmt: skip


def _gap(task: Task, model: LinearModel, ranked: Sequence[Pair]) -> Floats:
    scores = [
        model.probabilities(inputs_of(task, [Item(question=pair[0], answer=pair[side]) for pair in ranked]))[:, 0]
        for side in (1, 2)
    ]
    return np.asarray(scores[0] - scores[1], np.float64)


def _judged(data: Path) -> dict[str, list[Pair]]:
    """Pairs by data set: HHH and LLMBar by subset, Auto-J, PandaLM (by the majority of its three people).

    Answers of PandaLM that say `True` or `False` have become booleans in its file.
    """
    found: dict[str, list[Pair]] = {}
    for row in read(data, "judge/hhh_alignment.jsonl"):
        found.setdefault(f"HHH alignment: {row['subset']}", []).append((row["prompt"], row["chosen"], row["rejected"]))
    for row in read(data, "judge/llmbar_pairs.jsonl"):
        kind = next(k for k in ("Natural", "Adversarial", "Processed") if k in row["subset"]).lower()
        texts = (row["output_1"], row["output_2"])
        found.setdefault(f"LLMBar: {kind}", []).append(_pair(row["input"], texts, int(row["label"]) - 1))
    found["Auto-J"] = [
        _pair(row["prompt"], (row["response 1"], row["response 2"]), row["label"])
        for row in read(data, "judge/autoj_pairwise.jsonl")
        if row["label"] != 2
    ]
    found["PandaLM"] = [
        _pair(f"{row['instruction']}\n{row['input']}", (str(row["response1"]), str(row["response2"])), choice - 1)
        for row in read(data, "judge/pandalm_testset.jsonl")
        if (choice := _chosen(row))
    ]
    return found


def _chosen(row: Mapping[str, Any]) -> int:
    """1 or 2 where at least two of three people say so, else 0."""
    choice, votes = Counter(row[f"annotator{n}"] for n in (1, 2, 3)).most_common(1)[0]
    return int(choice) if votes > 1 else 0


def _pair(question: str, texts: tuple[str, str], better: int) -> Pair:
    return question, texts[better], texts[1 - better]


def _trained(task: Task, rows: Sequence[Mapping[str, Any]]) -> LinearModel:
    examples = task.examples(rows)
    return fit(task, inputs_of(task, [e.item for e in examples]), targets_of(task, examples))
