"""Agreement beyond chance, by published examples, by definition and against scikit-learn."""

from __future__ import annotations

import json
import math
import random

import pytest

from rlhf_judge.agreement import FleissTally, agreement, cohen_kappa, fleiss_kappa

# Fleiss (1971) as retold in most textbooks: 10 subjects, 14 raters, 5 categories; kappa 0.210.
COUNTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_fleiss_of_the_textbook():
    items = [[label for label, count in enumerate(row) for _ in range(count)] for row in COUNTS]
    assert fleiss_kappa(items) == pytest.approx(0.20993, abs=1e-5)
    assert agreement(items[1]) == pytest.approx(0.253, abs=1e-3)


def test_cohen_of_the_textbook():
    # Two readers of 50 grant applications: yes/yes 20, yes/no 5, no/yes 10, no/no 15; kappa 0.4.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(second, first) == pytest.approx(0.4)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohen_agrees_with_scikit_learn(weights):
    metrics = pytest.importorskip("sklearn.metrics")
    dice = random.Random(0)
    for _ in range(20):
        first = [dice.randint(1, 5) for _ in range(40)]
        second = [label if dice.random() < 0.5 else dice.randint(1, 5) for label in first]
        theirs = metrics.cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
        assert cohen_kappa(first, second, weights) == pytest.approx(theirs)


def test_bounds_and_what_has_no_answer():
    assert cohen_kappa([1, 2, 3], [1, 2, 3]) == 1
    assert cohen_kappa([1, 2], [2, 1]) == -1
    assert fleiss_kappa([[1, 1], [2, 2]]) == 1
    assert fleiss_kappa([[1, 2], [2, 1]]) == -1
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert math.isnan(fleiss_kappa([[1, 1], [1, 1]]))
    assert math.isnan(FleissTally().kappa)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cohen_kappa([1], [1, 2]), "given 1 and 2 labels"),
        (lambda: cohen_kappa([], []), "no items"),
        (lambda: cohen_kappa(["a", "b"], ["b", "a"], "linear"), "linear weights need numbers"),
        (lambda: fleiss_kappa([[1, 2], [1]]), "every item needs 2 judges, given 1"),
        (lambda: agreement([1]), "two judges or more"),
    ],
)
def test_nonsense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_three_annotators_of_pandalm(data_dir):
    lines = (data_dir / "judge" / "pandalm_testset.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    votes = [[row[f"annotator{n}"] for n in (1, 2, 3)] for row in rows]
    fleiss = fleiss_kappa(votes)
    cohens = [cohen_kappa([v[a] for v in votes], [v[b] for v in votes]) for a, b in ((0, 1), (0, 2), (1, 2))]
    # The paper (arXiv:2306.05087) reports 0.85, 0.86 and 0.88 on all 999 rows; these are 445 of them.
    assert all(0.8 < kappa < 0.95 for kappa in cohens)
    assert fleiss == pytest.approx(sum(cohens) / 3, abs=0.01)
